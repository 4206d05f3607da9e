// The face of a model that gives several labels: what its answers show, and the boxes that correct them.
"use strict";

const MOST_BOXES = 30; // so many labels have a box each; of more, those that the answer names do

// What an answer shows: the labels that it gives, then the likeliest of those that it doesn't.
function severalSeen({ labels, others }) {
  const lines = (named, given) => named.map(({ label, probability }) => ({ name: label, share: probability, given }));
  const best = labels.map(({ label }) => label).join(", ") || "None of the labels";
  return { best, source: "", ranking: [...lines(labels, true), ...lines(others, false)] };
}

const boxes = () => [...$("boxes").querySelectorAll("input")];
const ticked = () => boxes().filter((box) => box.checked).map((box) => box.value);

function addBox(label, checked) {
  const name = element("label", "tick", "");
  const box = Object.assign(element("input", "", ""), { type: "checkbox", value: label, checked });
  name.append(box, element("span", "", label));
  $("boxes").append(name);
  return box;
}

// A box for each label, ticked where the answer gives it.
function offerBoxes(known, { labels, others }) {
  const given = labels.map(({ label }) => label);
  const named = [...given, ...others.map(({ label }) => label)];
  boxes().forEach((box) => box.parentElement.remove());
  (known.length > MOST_BOXES ? named : known).forEach((label) => addBox(label, given.includes(label)));
}

// Ticks the label that was typed; one without a box gets one.
function tickTyped() {
  const label = $("correction").value.trim();
  if (!label) return;
  const box = boxes().find(({ value }) => value === label) ?? addBox(label, true);
  box.checked = true;
  $("correction").value = "";
  $("correction").focus();
}

// The words and controls of the page for such a model.
function severalFace() {
  $("boxes").hidden = $("add").hidden = false;
  $("correction").required = false;
  document.querySelector("label[for=correction]").textContent = "Another label";
  $("add").addEventListener("click", tickTyped);
  $("correction").addEventListener("keydown", (event) => {
    if (event.key !== "Enter" || event.isComposing || !$("correction").value.trim()) return;
    event.preventDefault();
    tickTyped();
  });
}
