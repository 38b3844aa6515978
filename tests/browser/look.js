// What is wrong with the page that is shown: a list of sentences. Arguments: its language, and how wide the window is.
const [language, width] = arguments;
const faults = [];
const root = document.documentElement;
const fault = (text) => faults.push(text);

if (root.lang !== language) fault(`its language is ${root.lang}, not ${language}`);
const headings = [...document.querySelectorAll('h1')];
if (headings.length !== 1) fault(`it has ${headings.length} headings of the first rank`);
const heading = headings[0]?.textContent ?? '';
if (!heading || !document.title.includes(heading)) fault(`its title is ${document.title}, its heading ${heading}`);
if (document.querySelectorAll('main').length !== 1) fault('it has not exactly one main part');
if (root.scrollWidth > width) fault(`it is ${root.scrollWidth} wide in a window of ${width}`);
if (getComputedStyle(root).colorScheme !== 'light dark') fault('it does not say that it knows light and dark');
if (document.compatMode !== 'CSS1Compat') fault('it is laid out as in the last century');

// No script, and nothing loaded beside the page itself.
if (document.scripts.length) fault('it holds a script');
const loaded = performance.getEntriesByType('resource').map((entry) => entry.name);
if (loaded.length) fault(`it loads ${loaded}`);
const all = [...document.querySelectorAll('*')];
for (const element of all) {
  for (const { name, value } of element.attributes) {
    if (name.startsWith('on') || /^\s*javascript:/i.test(value)) fault(`${element.tagName} has ${name}=${value}`);
  }
}
const ids = all.map((element) => element.id).filter(Boolean);
if (new Set(ids).size !== ids.length) fault('an id is there twice');

// Contrast (WCAG 2.2, 1.4.3 and 1.4.11, level AA).
const parse = (text) => {
  const [red, green, blue, alpha = 1] = text.match(/[\d.]+/g).map(Number);
  return { red, green, blue, alpha };
};
const luminance = ({ red, green, blue }) => {
  const linear = (value) => (value / 255 <= 0.04045 ? value / 255 / 12.92 : ((value / 255 + 0.055) / 1.055) ** 2.4);
  return 0.2126 * linear(red) + 0.7152 * linear(green) + 0.0722 * linear(blue);
};
const contrast = (one, other) => {
  const [dark, light] = [luminance(one), luminance(other)].sort((a, b) => a - b);
  return (light + 0.05) / (dark + 0.05);
};
const ground = (element) => {
  for (let at = element; at; at = at.parentElement) {
    const colour = parse(getComputedStyle(at).backgroundColor);
    if (colour.alpha === 1) return colour;
    if (colour.alpha !== 0) fault(`${at.tagName} is half transparent`);
  }
  return fault('nothing gives the page a background'), parse('rgb(255,255,255)');
};
const readable = (element, text) => {
  const style = getComputedStyle(element);
  const size = parseFloat(style.fontSize);
  const large = size >= 24 || (size >= 18.66 && Number(style.fontWeight) >= 700);
  const found = contrast(parse(style.color), ground(element));
  if (found < (large ? 3 : 4.5)) fault(`"${text}" has a contrast of ${found.toFixed(2)}`);
  if (size < 14) fault(`"${text}" is ${size} pixels high`);
};
const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
for (let node = texts.nextNode(); node; node = texts.nextNode()) {
  const text = node.data.trim();
  const box = node.parentElement.getBoundingClientRect();
  if (!text || node.parentElement.tagName === 'STYLE') continue;
  if (box.left < 0 || box.right > width) fault(`"${text}" reaches from ${box.left} to ${box.right}`);
  readable(node.parentElement, text);
}
for (const mark of document.querySelectorAll('svg')) {
  const found = contrast(parse(getComputedStyle(mark).stroke), ground(mark));
  if (found < 3) fault(`its mark has a contrast of ${found.toFixed(2)}`);
}

// What is filled in or pressed: named, large enough for a finger, and told from what is around it.
for (const field of document.querySelectorAll('input:not([type=hidden])')) {
  const label = field.labels[0];
  if (!label?.textContent.trim()) fault(`${field.name} has no label`);
  if (field.type === 'text') readable(field, field.value);
}
for (const target of document.querySelectorAll('a, button, input[type=text], label:has(input)')) {
  const [style, box] = [getComputedStyle(target), target.getBoundingClientRect()];
  if (box.height < 44) fault(`${target.textContent || target.name} is ${box.height} pixels high`);
  const around = ground(target.parentElement);
  const edge = parse(style.borderTopColor);
  const told = style.textDecorationLine === 'underline' || Math.max(edge.alpha && contrast(edge, around), contrast(ground(target), around)) >= 3;
  if (!told) fault(`${target.textContent || target.name} cannot be told from what is around it`);
}
return faults;
