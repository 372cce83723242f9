// The page's colours; they change with its theme.
function readTheme(root) {
  const style = getComputedStyle(root);
  const css = (name, otherwise) => style.getPropertyValue(name).trim() || otherwise;
  const accent = css("--st-primary-color", "#0B62B8");
  const dark = inkOn(css("--st-background-color", "#FFFFFF")) === "#FFFFFF";
  return {
    flag: dark ? "#E3B341" : "#8A5A00", onFlag: dark ? "#14181D" : "#FFFFFF",
    text: style.color, accent, onAccent: /^#[0-9a-f]{6}$/i.test(accent) ? inkOn(accent) : "#FFFFFF",
    paper: css("--st-background-color", "#FFFFFF"), soft: css("--st-secondary-background-color", "#F4F6F8"),
    line: css("--st-border-color", "#D9DEE3"), font: css("--st-font", "sans-serif"),
  };
}

function inkOn(color) {  // black or white, whichever reads better
  const [r, g, b] = [1, 3, 5].map((i) => parseInt(color.slice(i, i + 2), 16) / 255)
    .map((c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4));
  return 0.2126 * r + 0.7152 * g + 0.0722 * b < 0.2 ? "#FFFFFF" : "#14181D";
}
