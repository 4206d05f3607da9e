// The page to try a model of texts and correct it; base.js and shared.js are loaded before it.
"use strict";

const known = new Set();
let model = null;
let shown = null; // the answer on display, with the text that was asked and its line in the history

// What an answer shows, for a model that knows labels and for one that finds entries.
function seen(answer) {
  if (model.labels) {
    const ranking = [{ name: answer.best, share: answer.probability }];
    ranking.push(...answer.alternatives.map(({ label, probability }) => ({ name: label, share: probability })));
    return { best: answer.best, source: "", ranking };
  }
  const ranking = answer.alternatives.map(({ text, score }) => ({ name: text, share: Math.max(0, score) }));
  if (answer.answer !== null) ranking.unshift({ name: answer.answer, share: Math.max(0, answer.score) });
  return { best: answer.phrased ?? answer.answer ?? "Nothing fits well enough", source: answer.source ?? "", ranking };
}

async function introduce() {
  model = await call("v1/model");
  const version = model.version ? `Version ${model.version}` : "A bundle that is not promoted";
  const accuracy = model.metrics.valid?.accuracy;
  const measured = typeof accuracy === "number" ? `, right on ${percent(accuracy)} of validation` : "";
  const labels = model.labels ? `, ${model.labels.length} labels` : "";
  $("about").textContent = `${version}: ${model.task.replaceAll("-", " ")}${labels}${measured}.`;
  $("text").maxLength = model.max_text_chars;
  $("judge").hidden = !model.keeps_log;
  if (!model.labels) answers();
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
  shown = { text, answer, best, line: remembered(text, answer.abstained && model.labels ? `${best}?` : best) };
  const unsure = model.labels ? "The model isn't sure enough to say. Its best guess:" : "The model isn't sure enough to say.";
  $("kind").textContent = answer.abstained ? unsure : "The model says";
  $("label").textContent = best;
  $("source").textContent = source;
  $("ranking").replaceChildren(...ranking.map(ranked));
  $("thanks").textContent = "";
  $("correction").value = "";
  $("newness").hidden = true;
  asking(true);
  openCorrection(false);
  $("answer").hidden = false;
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
offerVerdict(judge, () => shown.best);
$("correction").addEventListener("input", () => {
  const label = $("correction").value.trim();
  $("newness").hidden = !label || !model.labels || known.has(label);
});
$("correct").addEventListener("submit", (event) => {
  event.preventDefault();
  const label = $("correction").value.trim();
  const button = $("correct").querySelector("button");
  guarded(button, () => judge({ rating: -1, correction: label }, `Thank you, noted as “${label}”.`, `→ ${label}`));
});
introduce().catch(trouble);
