// Asks now and then whether the watched folders changed, and only then has the page drawn anew.
const ANSWER_WITHIN_MS = 30_000; // a disk of a network can take that long

export default function (component) {
  const { data, parentElement, setTriggerValue } = component;
  const state = (parentElement.watch ??= { timer: 0, isAsking: false });
  Object.assign(state, { data, setTriggerValue });
  state.timer ||= setInterval(look, data.every_ms);
  return () => {
    clearInterval(state.timer);
    state.timer = 0;
  };

  async function look() {
    if (state.isAsking || document.hidden || !parentElement.isConnected) return;
    state.isAsking = true;
    try {
      const { url, token } = state.data;
      const signal = AbortSignal.timeout(ANSWER_WITHIN_MS);
      const answer = await fetch(url, { headers: { "x-whyslow-token": token }, signal });
      if (!answer.ok) return;
      const now = (await answer.json()).listing;
      if (now !== state.data.listing && parentElement.isConnected)
        state.setTriggerValue("changed", now);
    } catch {
      // The server does not answer now; the next look asks again.
    } finally {
      state.isAsking = false;
    }
  }
}
