// Asks now and then whether the watched folders changed, and only then has the page drawn anew.
export default function (component) {
  const { data, parentElement, setTriggerValue } = component;
  const state = (parentElement.watch ??= { timer: 0 });
  Object.assign(state, { data, setTriggerValue });
  state.timer ||= setInterval(look, data.every_ms);
  return () => {
    clearInterval(state.timer);
    state.timer = 0;
  };

  async function look() {
    if (document.hidden || !parentElement.isConnected) return;
    const { url, token, listing } = state.data;
    const answer = await fetch(url, { headers: { "x-whyslow-token": token } }).catch(() => null);
    if (!answer?.ok) return;
    const now = (await answer.json()).listing;
    if (now !== listing && parentElement.isConnected) state.setTriggerValue("changed", now);
  }
}
