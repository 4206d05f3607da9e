// The page to try a model of tables: a form made from its schema, the answer, what moved it, and what came true.
"use strict";

const REASONS = 6;
const NARROW = matchMedia("(width < 60rem)"); // there the answer stands below the form
let model = null;
let fields = []; // the controls of a row
let shown = null; // the answer on display, in words, with its line in the history

const isNumber = () => model.predicts === "number";

// A number with as many digits as people read: 1,010; 35.5; 0.0123.
function figure(value) {
  const size = Math.abs(value);
  const digits = size >= 100 ? 0 : size >= 10 ? 1 : 2;
  if (size && (size < 0.01 || size >= 1e15)) return value.toLocaleString("en", { maximumSignificantDigits: 3 });
  return value.toLocaleString("en", { maximumFractionDigits: digits });
}

// The numbers of one account, all with as many digits, so that they can be added up.
function writer(numbers) {
  const size = Math.max(...numbers.map(Math.abs));
  const digits = size >= 1000 ? 0 : size >= 100 ? 1 : 2;
  const plain = !size || (size >= 0.1 && size < 1e9);
  return (value) => (plain ? value.toLocaleString("en", { minimumFractionDigits: digits, maximumFractionDigits: digits }) : value.toExponential(2));
}

async function introduce() {
  model = await call("v1/model");
  const version = model.version ? `Version ${model.version}` : "A bundle that is not promoted";
  const { properties, "x-target": target, "x-id": own } = model.schema;
  $("about").textContent = `${version}: tells “${target}” from ${fieldNames(properties, own).length} fields.`;
  build(properties, own);
  prepareJudge();
}

const fieldNames = (properties, own) => Object.keys(properties).filter((name) => name !== own);

function build(properties, own) {
  fields = fieldNames(properties, own).map((name) => control(name, properties[name], model.max_text_chars));
  if (own) fields.unshift(idBox(own));
  $("fields").replaceChildren(...fields.map((field) => field.part));
}

function prepareJudge() {
  $("judge").hidden = !model.keeps_log;
  $("labels").replaceChildren(...(model.labels ?? []).map((label) => option(label, "")));
  if (isNumber()) {
    $("asking").hidden = true;
    Object.assign($("correction"), { type: "number", step: "any", placeholder: "The true number" });
  } else {
    $("correction").setAttribute("list", "labels");
    $("correction").placeholder = "Pick one, or type a new one";
  }
}

// The row as it is asked; a model that has a field called reasons is not told how many are wanted.
function row() {
  const cells = Object.fromEntries(fields.map((field) => [field.name, field.read()]));
  return "reasons" in model.schema.properties ? cells : { ...cells, reasons: REASONS };
}

function inWords(cells) {
  const known = fields.map(({ name }) => [name, cells[name]]).filter(([, value]) => value !== null);
  return known.map(([name, value]) => `${name} ${plain(value)}`).join(", ") || "nothing known";
}

const plain = (value) => ({ true: "yes", false: "no", null: UNKNOWN })[String(value)] ?? String(value);

function show(cells, answer) {
  const best = isNumber() ? figure(answer.value) : answer.label;
  const brief = isNumber() ? best : `${best}, ${percent(answer.probability)}`;
  shown = { answer, best, line: remembered(inWords(cells), brief) };
  $("kind").textContent = model.schema["x-target"];
  $("label").replaceChildren(element("span", "", best));
  if (!isNumber()) $("label").append(" ", element("span", "share", percent(answer.probability)));
  isNumber() ? showInterval(answer) : showClasses(answer);
  showNotes(answer);
  showReasons(answer);
  $("thanks").textContent = "";
  $("correction").value = "";
  $("newness").hidden = true;
  $("right").disabled = $("wrong").disabled = false;
  $("correct").hidden = !isNumber();
  $("wrong").setAttribute("aria-expanded", "false");
  $("answer").hidden = false;
  $("nothing").hidden = true;
  $("answer").scrollIntoView({ block: NARROW.matches ? "start" : "nearest" });
}

function showClasses(answer) {
  const ranking = Object.entries(answer.probabilities).map(([name, share]) => ({ name, share }));
  ranking.sort((one, other) => other.share - one.share);
  $("ranking").replaceChildren(...ranking.map(ranked));
  $("ranking").hidden = false;
  const event = model.labels.length === 2 && typeof model.threshold === "number";
  $("decision").textContent = event ? `It says “${model.labels[1]}” from ${percent(model.threshold)} on.` : "";
}

function showInterval({ value, low, high, coverage }) {
  const room = (high - low) * 0.15 || 1;
  const place = (at) => `${(100 * (at - low + room)) / (high - low + 2 * room)}%`;
  const find = (name) => $("interval").querySelector(`.${name}`);
  find("span").style.left = find("low").style.left = place(low);
  find("span").style.right = `calc(100% - ${place(high)})`;
  find("high").style.left = place(high);
  find("dot").style.left = place(value);
  find("low").textContent = figure(low);
  find("high").textContent = figure(high);
  $("interval").hidden = false;
  $("decision").textContent = `${percent(coverage)} of such rows lie between ${figure(low)} and ${figure(high)}.`;
}

function showNotes({ missing, unseen }) {
  const notes = [...unseen];
  if (missing.length) notes.unshift(`Not sent, so not known: ${missing.join(", ")}`);
  $("notes").replaceChildren(...notes.map((words) => element("li", "", `${words}.`)));
  $("notes").hidden = !notes.length;
}

// An account: the average row, what each reason adds to it, all else, and what that makes.
function showReasons(answer) {
  const sides = isNumber() ? ["lowers it", "raises it"] : [`against “${answer.reasons_for}”`, `for “${answer.reasons_for}”`];
  $("against").textContent = sides[0];
  $("for").textContent = sides[1];
  const total = isNumber() ? answer.value : answer.score;
  const most = Math.max(...answer.reasons.map((reason) => Math.abs(reason.effect)), Math.abs(answer.others), 1e-12);
  const write = writer([answer.base, total, most]);
  const sum = (value) => (value < 0 ? "−" : "") + write(Math.abs(value));
  const part = (value) => (value < 0 ? "−" : "+") + write(Math.abs(value));
  const moved = (kind, name, value, by) => line(kind, name, value, part(by), (50 * by) / most);
  const made = isNumber() ? `makes the ${model.schema["x-target"]}` : `makes the score of “${answer.reasons_for}”`;
  $("reasons").replaceChildren(
    line("base", "an average row", "", sum(answer.base)),
    ...answer.reasons.map(({ column, value, effect }) => moved("reason", column, plain(value), effect)),
    moved("others", "all else together", "", answer.others),
    line("total", made, "", sum(total)),
  );
  $("unit").textContent = unit(answer);
}

function unit({ reasons_for: event, probabilities }) {
  if (isNumber()) return "";
  const means = `It stands for a probability of ${percent(probabilities[event])}.`;
  return model.labels.length === 2 ? `The score is in log-odds, before calibration. ${means}` : means;
}

// One line of the account; `width` is that of its bar in per cent, below 0 to the left.
function line(kind, name, value, amount, width = null) {
  const made = element("li", kind, "");
  const what = element("span", "what", "");
  what.append(element("span", "column", name), element("span", "value", value));
  const track = element("span", "track", "");
  if (width !== null) {
    const bar = element("span", width < 0 ? "bar less" : "bar more", "");
    bar.style.width = `${Math.abs(width)}%`;
    track.append(bar);
  }
  made.append(what, track, element("span", "amount", amount));
  return made;
}

async function judge(said, thanks, mark) {
  const about = shown;
  await call("v1/feedback", { id: about.answer.id, by: "page", ...said });
  about.line.textContent = mark;
  if (about !== shown) return;
  $("right").disabled = $("wrong").disabled = true;
  openCorrection(false);
  $("thanks").textContent = thanks;
  $("label").focus();
}

$("ask").addEventListener("submit", (event) => {
  event.preventDefault();
  if (!model) return;
  const cells = row();
  guarded($("send"), async () => show(cells, await call("v1/predict", cells)));
});
$("example").addEventListener("click", () => {
  fields.forEach((field) => { if (field.example !== null) field.fill(field.example); });
  $("send").focus();
});
$("clear").addEventListener("click", () => {
  fields.forEach((field) => field.fill(null));
  fields[0]?.part.querySelector("input, select, textarea").focus();
});
offerVerdict(judge, () => shown.best);
$("correction").addEventListener("input", () => {
  const label = $("correction").value.trim();
  $("newness").hidden = !label || !model.labels || model.labels.includes(label);
});
$("correct").addEventListener("submit", (event) => {
  event.preventDefault();
  const truth = $("correction").value.trim();
  const rating = isNumber() ? {} : { rating: shown.answer.label === truth ? 1 : -1 };
  guarded(event.submitter, () => judge({ ...rating, correction: truth }, `Thank you, noted as “${truth}”.`, `→ ${truth}`));
});
introduce().catch(trouble);
