// What the pages that ask a one-shot model share; base.js is loaded before it.
"use strict";

const HISTORY = 8;

async function call(path, body) {
  const options = body && { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) };
  let response;
  try {
    response = await asked(path, options);
  } catch {
    throw new Error("The server cannot be reached. Is it still running?");
  }
  const said = await response.json().catch(() => ({}));
  if (!response.ok) {
    const error = said.error ?? { what: `the server said ${response.status}`, do: "try again" };
    throw new Error(`${capital(error.what)}. ${capital(error.do)}.`);
  }
  return said;
}

const percent = (share) => `${(100 * share).toFixed(share > 0.999 || share < 0.1 ? 1 : 0)} %`;

function ranked({ name, share, given }, place) {
  const line = element("li", given ?? place === 0 ? "given" : "", "");
  const bar = element("span", "bar", "");
  bar.style.width = `${100 * Math.min(1, share)}%`;
  line.append(bar, element("span", "name", name), element("span", "share", percent(share)));
  return line;
}

const option = (value, text = value) => Object.assign(element("option", "", text), { value });

// Adds a line to what was asked before; returns the part of it that tells the answer.
function remembered(asked, answer) {
  const line = document.createElement("li");
  const got = element("span", "got", answer);
  line.append(element("span", "said", asked), got);
  line.title = asked;
  $("history").prepend(line);
  while ($("history").children.length > HISTORY) $("history").lastChild.remove();
  $("earlier").hidden = false;
  return got;
}

function openCorrection(open) {
  $("correct").hidden = !open;
  $("wrong").setAttribute("aria-expanded", String(open));
  if (open) $("correct").querySelector("input").focus();
}

// The buttons below an answer: right, or wrong and in which way. `judge` sends the verdict, `best` tells the answer,
// `liked` what is sent when it is right.
function offerVerdict(judge, best, liked = () => ({ rating: 1 })) {
  $("right").addEventListener("click", () => {
    guarded($("right"), () => judge(liked(), "Thank you, noted as right.", `${best()} ✓`)).then(() => {
      $("right").disabled = $("wrong").disabled;
    });
  });
  $("wrong").addEventListener("click", () => openCorrection($("correct").hidden));
}
