// Asks the server and reads its answers: a head of JSON, then columns of numbers. Answers come by
// fetch; where something between here and the server lets only the page through, they come as the
// component's own data, one at a time.
const COLUMN_KINDS = {
  f8: Float64Array, f4: Float32Array, i4: Int32Array, u4: Uint32Array, u1: Uint8Array,
};
const FAILURES = 2;      // in a row, before the other way is taken
const RETRY_AFTER = 200; // ms
const PATIENCE = 60000;  // ms for an answer that comes with the page; a recording may be opened first

class Refused extends Error {}  // the server understood, and said no
class NotMade extends Error {}  // a child process is making what was asked for

class Transport {
  constructor() {
    this.mode = "fetch";
    this.active = 0;     // asked and not answered
    this.failures = 0;
    this.queue = [];
    this.asked = null;   // what the page is fetching for us
    this.number = Date.now();  // an answer to an earlier canvas must not pass for one to this
  }

  // `query` names the recording and what is asked; `about` tells requests that replace each other.
  async ask(query, about, signal) {
    this.active += 1;
    try {
      while (this.mode === "fetch") {
        try {
          const answer = await this.fetched(query, signal);
          this.failures = 0;
          return answer;
        } catch (error) {
          if (error.name === "AbortError" || error instanceof Refused) throw error;
          if (error instanceof NotMade) {
            await pause(RETRY_AFTER);
            continue;
          }
          this.failures += 1;
          if (this.failures >= FAILURES) this.mode = "bytes";
          else await pause(RETRY_AFTER);
        }
      }
      return await this.brought(query, about, signal);
    } finally {
      this.active -= 1;
    }
  }

  async fetched(query, signal) {
    const answer = await fetch(this.url + "?" + new URLSearchParams(query), {
      headers: { "x-whyslow-token": this.token }, signal,
    });
    if (answer.status === 202) throw new NotMade();
    const kind = answer.headers.get("content-type") || "";
    if (answer.ok && kind.startsWith("application/octet-stream")) {
      return decode(await answer.arrayBuffer());
    }
    if (!answer.ok && kind.includes("json")) throw new Refused((await answer.json()).error);
    // A wrong base path answers the page itself, with 200.
    throw new Error("HTTP " + answer.status);
  }

  brought(query, about, signal) {
    return new Promise((resolve, reject) => {
      const request = { n: ++this.number, query, about, resolve, reject };
      const replaced = this.queue.findIndex((other) => other.about === about);
      if (replaced >= 0) this.queue.splice(replaced, 1)[0].reject(superseded());
      this.queue.push(request);
      signal?.addEventListener("abort", () => {
        this.queue = this.queue.filter((other) => other !== request);
        reject(superseded());
      });
      this.pump();
    });
  }

  pump() {
    if (this.asked || !this.queue.length) return;
    const request = this.asked = this.queue.shift();
    request.timer = setTimeout(() => {
      request.reject(new Error("no answer from the server"));
      this.finish(request);
    }, PATIENCE);
    this.bring({ n: request.n, query: request.query });
  }

  finish(request) {
    clearTimeout(request.timer);
    if (this.asked === request) this.asked = null;
    this.pump();
  }

  // The page brought the answer to request `n`; it brings it again with all later data.
  receive(n, buffer) {
    const request = this.asked;
    if (!request || request.n !== n) return;
    try {
      request.resolve(decode(buffer));
    } catch (error) {
      request.reject(error);
    }
    this.finish(request);
  }
}

// What Python gives the component: JSON, then perhaps the bytes of an answer.
function decodeGiven(bytes) {
  const size = new DataView(bytes.buffer, bytes.byteOffset, 4).getUint32(0, true);
  const given = JSON.parse(new TextDecoder().decode(bytes.subarray(4, 4 + size)));
  // A copy, because columns must start at multiples of eight bytes.
  return [given, bytes.slice(4 + size).buffer];
}

function decode(buffer) {
  const bytes = new Uint8Array(buffer), words = new TextDecoder();
  const size = bytes.length < 4 ? Infinity : new DataView(buffer).getUint32(0, true);
  if (!bytes.length) throw new Refused("the server refused the request");
  // An error is plain JSON; its first letters, read as a length, are far too long.
  if (4 + size > bytes.length) throw new Refused(JSON.parse(words.decode(bytes)).error);
  const head = JSON.parse(words.decode(bytes.subarray(4, 4 + size)));
  const columns = {};
  let at = 4 + size;
  for (const [name, kind, count] of head.columns || []) {
    at = Math.ceil(at / 8) * 8;
    columns[name] = new COLUMN_KINDS[kind](buffer, at, count);
    at += columns[name].byteLength;
  }
  return { head, columns };
}

function superseded() { return new DOMException("superseded", "AbortError"); }

function pause(ms) { return new Promise((resolve) => setTimeout(resolve, ms)); }
