// What has the keyboard's attention: what it is called, what it is, and how well that shows.
const element = document.activeElement;
if (!element || element === document.body) return null;
const named = element.labels?.[0]?.textContent ?? element.textContent;
const style = getComputedStyle(element);
const colour = (text) => text.match(/[\d.]+/g).map(Number);
const luminance = (rgb) => {
  const [red, green, blue] = rgb.map((value) => (value / 255 <= 0.04045 ? value / 255 / 12.92 : ((value / 255 + 0.055) / 1.055) ** 2.4));
  return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
};
let around = element.parentElement;
while (around.parentElement && colour(getComputedStyle(around).backgroundColor)[3] === 0) around = around.parentElement;
const [dark, light] = [style.outlineColor, getComputedStyle(around).backgroundColor].map((text) => luminance(colour(text))).sort((a, b) => a - b);
const box = element.getBoundingClientRect();
return {
  name: named.trim(),
  ring: style.outlineStyle === 'none' ? 0 : parseFloat(style.outlineWidth),
  contrast: (light + 0.05) / (dark + 0.05),
  seen: box.top >= 0 && box.bottom <= innerHeight,
};
