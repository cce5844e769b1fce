"use strict";
// What is shown: the run or study, the policy, the days; and the page as a whole.

const articles = [...document.querySelectorAll("article[data-part]")];
const partChoice = document.getElementById("part");
const policyChoice = document.getElementById("policy");
const daysChoice = document.getElementById("days");
const made = new Map(); // article -> RunPart or StudyPart
let current = 0;

function trouble(error) {
  const place = document.getElementById("trouble");
  place.textContent = `Something in this page does not work in this browser: ${error.message ?? error}. The tables are complete.`;
  place.hidden = false;
  console.error(error);
}

async function showPart(number) {
  current = number;
  const part = page.parts[number];
  articles.forEach((article, at) => (article.hidden = at !== number));
  for (const figure of [...charts.keys()]) if (figure.closest("article")) removeChart(figure);
  const before = policyChoice.value;
  policyChoice.replaceChildren(...part.policies.map((name) => make("option", { value: name }, page.policies[name].label)));
  policyChoice.value = part.policies.includes(before) ? before : part.favourite;
  listDays(part);
  listSections(articles[number]);
  if (!made.has(number)) made.set(number, part.kind === "run" ? new RunPart(articles[number], part) : new StudyPart(articles[number], part));
  await showPolicy(policyChoice.value);
}

const showPolicy = (policy) => Promise.all([made.get(current).show(policy), drawSideBySide(policy)]);

function listDays(part) {
  const count = part.kind === "run" ? Math.ceil((part.slots * part.slot) / DAY) : 0;
  document.getElementById("days-label").hidden = count < 2;
  const first = part.kind === "run" ? Math.floor(part.start / DAY) * DAY : 0;
  const days = Array.from({ length: count }, (_, day) => first + day * DAY);
  daysChoice.replaceChildren(make("option", { value: "" }, "all"), ...days.map((day) => make("option", { value: day }, dayText(day))));
  shownDays = null;
}

function listSections(article) {
  const heads = [...document.querySelectorAll("#comparison h2"), ...article.querySelectorAll("section > h2")];
  const links = heads.map((head) => make("a", { href: `#${head.closest("section").id}` }, head.textContent));
  const contents = document.getElementById("contents");
  links.forEach((link) => (link.onclick = () => (contents.open = false)));
  contents.querySelector("nav").replaceChildren(...links);
  contents.onkeydown = (event) => {
    if (event.key !== "Escape") return;
    contents.open = false;
    contents.querySelector("summary").focus();
  };
}

function paint() {
  paintSwatches();
  redrawCharts();
  const map = made.get(current)?.map;
  if (map?.svg) {
    map.build();
    map.show(map.slot, false);
  }
}

function forPaper(paper) {
  onPaper = paper;
  root.classList.toggle("paper", paper);
  made.get(current)?.paper?.(paper);
  paint();
}

async function begin() {
  document.querySelector(".bar").hidden = false;
  partChoice.onchange = () => showPart(Number(partChoice.value)).catch(trouble);
  policyChoice.onchange = () => showPolicy(policyChoice.value).catch(trouble);
  daysChoice.onchange = () => showDays(daysChoice.value ? [Number(daysChoice.value), Number(daysChoice.value) + DAY] : null);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", paint);
  addEventListener("beforeprint", () => forPaper(true));
  addEventListener("afterprint", () => forPaper(false));
  let pending = 0;
  new ResizeObserver(() => {
    clearTimeout(pending);
    pending = setTimeout(() => {
      if (onPaper) return;
      fitCharts();
      const map = made.get(current)?.map;
      if (map?.svg && Number(map.svg.getAttribute("width")) !== widthOf(map.figure)) {
        map.build();
        map.show(map.slot, false);
      }
    }, 60);
  }).observe(document.getElementById("content"));
  paintSwatches();
  await showPart(0);
  root.dataset.ready = "yes"; // for tests: everything is drawn
}

begin().catch(trouble);
