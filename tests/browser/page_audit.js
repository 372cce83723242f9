() => {
  const parse = (text) => {
    const m = /rgba?\(([^)]+)\)/.exec(text);
    if (!m) return null;
    const [r, g, b, a = 1] = m[1].split(/[\s,/]+/).map(Number);
    return [r, g, b, a];
  };
  const over = (top, below) => top.slice(0, 3).map((c, i) => c * top[3] + below[i] * (1 - top[3]));
  const luminance = (rgb) => {
    const [r, g, b] = rgb.map((c) => {
      const s = c / 255;
      return s <= 0.04045 ? s / 12.92 : ((s + 0.055) / 1.055) ** 2.4;
    });
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const backdrop = (element) => {
    const layers = [];
    for (let e = element; e; e = e.parentElement) {
      const color = parse(getComputedStyle(e).backgroundColor);
      if (color && color[3] > 0) layers.push(color);
      if (color && color[3] === 1) break;
    }
    return layers.reverse().reduce((below, top) => over(top, below), [255, 255, 255]);
  };
  const fade = (element) => {
    let opacity = 1;
    for (let e = element; e; e = e.parentElement) opacity *= Number(getComputedStyle(e).opacity);
    return opacity;
  };
  const shown = (e) => {
    const box = e.getBoundingClientRect();
    const style = getComputedStyle(e);
    return box.width > 1 && box.height > 1 && style.visibility === "visible" && !e.closest("[disabled],[aria-disabled=true]");
  };
  const own = (e) => [...e.childNodes].some((n) => n.nodeType === 3 && n.data.trim());
  const faint = [];
  for (const e of document.querySelectorAll("[data-testid=stMain] *, [data-testid=stHeader] a *")) {
    if (e.closest("script,style,canvas,svg,[aria-hidden=true] [data-testid=stIconMaterial],[data-testid=stIconMaterial]") || !own(e) || !shown(e)) continue;
    const color = parse(getComputedStyle(e).color);
    if (!color) continue;
    color[3] *= fade(e);
    const below = backdrop(e);
    const [a, b] = [luminance(over(color, below)), luminance(below)].sort((x, y) => y - x);
    const ratio = (a + 0.05) / (b + 0.05);
    if (ratio < 4.5) faint.push(`${ratio.toFixed(2)} ${e.tagName} "${e.textContent.trim().slice(0, 40)}" ${getComputedStyle(e).color}`);
  }
  const nameless = [...document.querySelectorAll("button,a[href],input,select,textarea,[role=button],canvas,.js-plotly-plot")]
    .filter((e) => shown(e) && !e.closest("[data-testid=stDataFrame]")) // Streamlit's grid names its cells
    .filter((e) => !e.textContent.trim() && !e.getAttribute("aria-label") && !e.getAttribute("title") && !e.labels?.length && !e.closest("[aria-label],[role=img][aria-label],[alt]"))
    .map((e) => e.outerHTML.slice(0, 160));
  const wide = document.documentElement.scrollWidth > innerWidth + 1 ? [`page is ${document.documentElement.scrollWidth} wide`] : [];
  return { faint, nameless, wide };
}
