// The page to try a model of texts and correct it; base.js, shared.js and several.js are loaded before it.
"use strict";

const known = new Set();
let model = null;
let shown = null; // the answer on display, with the text that was asked and its line in the history

// What an answer shows, for a model that gives a label, or several, and for one that finds entries.
function seen(answer) {
  if (model.several) return severalSeen(answer);
  if (model.labels) {
    const ranking = [{ name: answer.best, share: answer.probability }];
    ranking.push(...answer.alternatives.map(({ label, probability }) => ({ name: label, share: probability })));
    return { best: answer.best, source: "", ranking };
  }
  const words = answer.answer ?? answer.withheld.answer;
  const ranking = [{ text: words, score: answer.score }, ...answer.alternatives];
  const named = ranking.map(({ text, score }) => ({ name: text, share: Math.max(0, score) }));
  return { best: answer.phrased ?? words, source: answer.source ?? "", ranking: named };
}

async function introduce() {
  model = await call("v1/model");
  const version = model.version ? `Version ${model.version}` : "A bundle that is not promoted";
  const { accuracy, subset_accuracy: whole } = model.metrics.valid ?? {};
  const right = accuracy ?? whole;
  const measured = typeof right === "number" ? `, right on ${percent(right)} of validation` : "";
  const labels = model.labels ? `, ${model.labels.length} labels` : "";
  $("about").textContent = `${version}: ${model.task.replaceAll("-", " ")}${labels}${measured}.`;
  $("text").maxLength = model.max_text_chars;
  $("judge").hidden = !model.keeps_log;
  if (!model.labels) answers();
  if (model.several) severalFace();
  known.clear();
  (model.labels ?? []).forEach((label) => known.add(label));
  $("labels").replaceChildren(...(model.labels ?? []).map((label) => option(label, "")));
}

// The words of the page for a model that finds answers.
function answers() {
  document.querySelector("label[for=correction]").textContent = "The right answer";
  $("correction").placeholder = "Write what it should have said";
  $("correction").removeAttribute("list");
  $("correction").maxLength = model.max_text_chars;
  $("ranking").setAttribute("aria-label", "Entries by how well they fit");
}

function show(text, answer) {
  const { best, source, ranking } = seen(answer);
  const { withheld } = answer;
  shown = { text, answer, best, line: remembered(text, withheld ? `abstains (${best}?)` : best) };
  $("answer").classList.toggle("withheld", Boolean(withheld));
  $("kind").textContent = withheld ? "The model abstains: it isn't sure enough. It would have said:" : "The model says";
  $("label").textContent = best;
  $("withheld").textContent = withheld ? `Kept back: ${withheld.why}.` : "";
  $("question").textContent = withheld ? "Would that be right?" : "Is that right?";
  $("source").textContent = source;
  $("ranking").replaceChildren(...ranking.map(ranked));
  $("thanks").textContent = "";
  $("correction").value = "";
  $("newness").hidden = $("words").hidden = true;
  $("why").hidden = !model.explains;
  if (model.several) offerBoxes(model.labels, answer);
  asking(true);
  openCorrection(false);
  $("answer").hidden = false;
}

// Each word with what it adds to the answer's probability; the ground behind it is as strong as that.
function marked(whole, { parts }) {
  const text = Array.from(whole); // places are counted in characters, not in halves of them
  const told = (start, end) => text.slice(start, end).join("");
  const most = Math.max(...parts.map(({ weight }) => Math.abs(weight)), 0.01);
  const pieces = [];
  let place = 0;
  for (const { start, end, weight } of parts) {
    const word = element("mark", weight < 0 ? "against" : "for", told(start, end));
    word.style.setProperty("--share", (Math.abs(weight) / most).toFixed(2));
    word.title = `${weight < 0 ? "−" : "+"}${(100 * Math.abs(weight)).toFixed(1)} points`;
    pieces.push(told(place, start), word);
    place = end;
  }
  $("words").replaceChildren(...pieces, told(place));
  $("words").hidden = false;
}

function asking(open) {
  $("right").disabled = $("wrong").disabled = !open;
}

async function judge(said, thanks, mark) {
  const about = shown;
  await call("v1/feedback", { id: about.answer.id, by: "page", ...said });
  about.line.textContent = mark;
  if (about !== shown) return;
  asking(false);
  openCorrection(false);
  $("thanks").textContent = thanks;
  $("text").focus();
  $("text").select();
}

$("ask").addEventListener("submit", (event) => {
  event.preventDefault();
  const text = $("text").value;
  guarded($("send"), async () => show(text, await call("v1/predict", { [model.one]: text })));
});
$("text").addEventListener("keydown", (event) => {
  if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
    event.preventDefault();
    if (!$("send").disabled) $("ask").requestSubmit();
  }
});
$("explain").addEventListener("click", () => {
  const { text } = shown;
  guarded($("explain"), async () => marked(text, await call("v1/explain", { [model.one]: text })));
});
// Whoever likes an answer that was kept back is asked for the right one, and says that it is this.
const liked = () => (shown.answer.withheld ? { rating: 1, correction: shown.answer.withheld.answer } : { rating: 1 });
offerVerdict(judge, () => shown.best, liked);
$("correction").addEventListener("input", () => {
  const label = $("correction").value.trim();
  $("newness").hidden = !label || !model.labels || known.has(label);
});
$("correct").addEventListener("submit", (event) => {
  event.preventDefault();
  const typed = $("correction").value.trim();
  const correction = model.several ? [...new Set([...ticked(), ...(typed ? [typed] : [])])] : typed;
  const told = model.several ? correction.join(", ") || "none of the labels" : typed;
  const button = $("correct").querySelector("button.strong");
  guarded(button, () => judge({ rating: -1, correction }, `Thank you, noted as “${told}”.`, `→ ${told}`));
});
introduce().catch(trouble);
