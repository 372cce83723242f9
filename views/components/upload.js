// Sends a recording in slices straight to disk. After a lost connection it goes on where it was.
const RETRIES = 5, RETRY_AFTER = 800;  // ms, doubled each time

export default function (component) {
  const { data, parentElement, setTriggerValue } = component;
  const box = parentElement.querySelector(".upload"), input = box.querySelector("input");
  const line = box.querySelector(".line"), bar = box.querySelector("progress");
  const choose = box.querySelector("button");
  const state = (box.state ??= { running: false });
  state.data = data;
  state.done = setTriggerValue;
  const hint = (box.hint ??= line.textContent);
  choose.onclick = () => (state.running ? (state.stop = true) : input.click());
  input.onchange = () => start(input.files[0]);
  box.ondragover = (event) => { event.preventDefault(); box.classList.add("over"); };
  box.ondragleave = () => box.classList.remove("over");
  box.ondrop = (event) => {
    event.preventDefault();
    box.classList.remove("over");
    start(event.dataTransfer.files[0]);
  };

  async function start(file) {
    if (!file || state.running) return;
    Object.assign(state, { running: true, stop: false });
    state.done("began", file.name);
    choose.textContent = "Stop";
    bar.style.display = "block";
    try {
      const key = await send(file);
      line.textContent = `${file.name} is uploaded.`;
      state.done("uploaded", key);
    } catch (error) {
      line.textContent = error.stopped ? error.message : hint;
      if (!error.stopped) state.done("refused", error.message);  // the page shows the newest answer
    }
    state.running = false;
    choose.textContent = "Choose a file";
    bar.style.display = "none";
    input.value = "";
  }

  async function send(file) {
    const key = await digest(`${file.name} ${file.size} ${file.lastModified}`);
    let { off } = await ask("GET", { key });
    if (off > file.size) off = 0;
    for (let tries = 0; ;) {
      if (state.stop) throw stopped(file.name);
      try {
        const slice = file.slice(off, off + state.data.slice);
        const answer = await ask("PUT", { key, name: file.name, size: file.size, off }, slice);
        off = answer.off;
        tries = 0;
        bar.value = off / file.size;
        line.textContent = `${file.name}: ${(off / 1e6).toFixed(0)} of ${(file.size / 1e6).toFixed(0)} MB`;
        if (answer.done) return key;
      } catch (error) {
        if (error.off !== undefined && error.off !== off) { off = error.off; continue; }
        if (error.final || ++tries > RETRIES) throw error;
        line.textContent = `${file.name}: connection lost, trying again …`;
        await new Promise((go) => setTimeout(go, RETRY_AFTER * 2 ** tries));
      }
    }
  }

  async function ask(method, query, body) {
    const address = state.data.url + "?" + new URLSearchParams(query);
    const answer = await fetch(address, { method, body, headers: { "x-whyslow-token": state.data.token } });
    const kind = answer.headers.get("content-type") || "";
    const said = kind.includes("json") ? await answer.json() : { error: `No answer from ${state.data.url}.` };
    if (answer.ok && said.error === undefined) return said;
    throw Object.assign(new Error(said.error), { off: said.off, final: true });
  }

  function stopped(name) {
    return Object.assign(new Error(`${name}: stopped; choose it again to continue.`), { stopped: true });
  }

  async function digest(text) {
    // Only a label to find the upload again; the server makes its own name of it.
    let a = 0x811c9dc5, b = 0x1234567;
    for (const code of new TextEncoder().encode(text)) {
      a = Math.imul(a ^ code, 0x01000193);
      b = Math.imul(b ^ code, 0x85ebca6b) ^ (b >>> 13);
    }
    const random = state.data.label;
    return random + [a, b].map((v) => (v >>> 0).toString(16).padStart(8, "0")).join("");
  }
}
