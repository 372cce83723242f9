// Streamlit calls this for every change of the data or of the theme.
const instances = new WeakMap();

export default function (component) {
  const { data, parentElement } = component;
  if (!data?.length) return;
  let timeline = instances.get(parentElement);
  if (!timeline) {
    timeline = new Timeline(parentElement);
    instances.set(parentElement, timeline);
  }
  const [given, answer] = decodeGiven(data);
  timeline.update(given, answer, component);
  // Streamlit may call this right after an update that another one overtook: then it stays.
  return () => { if (!timeline.root.isConnected) timeline.close(); };
}
