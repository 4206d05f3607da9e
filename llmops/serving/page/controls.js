// The controls of a row's fields, made from the model's schema. Each can say "not known", which is null.
"use strict";

const UNKNOWN = "not known";
const SWITCH = [["true", "yes"], ["false", "no"], ["", UNKNOWN]];

// A field's control: {name, part, read, fill, example}. `read` gives null for what is not known.
function control(name, schema, most) {
  const make = { number: numberBox, select: choices, date: dateBox, switch: threeWays }[schema["x-control"]] ?? wordBox;
  const made = make(name, schema, most);
  return { name, example: schema.examples?.[0] ?? null, ...made };
}

const identifier = (name) => `field-${name}`;
const such = (schema, words = "such as") => (schema.examples?.length ? `${words} ${schema.examples[0]}` : "");

// A labelled box of which an empty one means "not known", and says so beside its name.
function labelled(name, input, hint = "") {
  const part = element("div", "field", "");
  const label = element("label", "", name);
  const state = element("span", "state quiet", "");
  input.id = label.htmlFor = identifier(name);
  state.id = `${input.id}-state`;
  input.setAttribute("aria-describedby", state.id);
  const tell = () => { state.textContent = input.value ? "" : [UNKNOWN, hint].filter(Boolean).join(", "); };
  input.addEventListener("input", tell);
  tell();
  const top = element("div", "top", "");
  top.append(label, state);
  part.append(top, input);
  const fill = (value) => {
    input.value = value ?? "";
    tell();
  };
  return { part, fill };
}

function box(type, attributes) {
  return Object.assign(element("input", "", ""), { type, ...attributes });
}

function numberBox(name, schema) {
  const input = box("number", { step: "any", inputMode: "decimal", placeholder: such(schema) });
  const made = labelled(name, input);
  return { ...made, read: () => (input.value === "" ? null : Number(input.value)) };
}

function dateBox(name, schema) {
  const input = box(schema.format === "date" ? "date" : "datetime-local", {});
  const made = labelled(name, input, such(schema, "as")); // such a box has no placeholder
  return { ...made, read: () => input.value || null };
}

function wordBox(name, schema, most) {
  const long = schema["x-control"] === "box" && !schema.examples?.length;
  const input = long ? Object.assign(element("textarea", "", ""), { rows: 2 }) : box("text", { placeholder: such(schema) });
  input.maxLength = most;
  const made = labelled(name, input);
  made.part.classList.toggle("long", long);
  return { ...made, read: () => input.value.trim() || null };
}

function choices(name, schema) {
  const input = element("select", "", "");
  input.append(option("", UNKNOWN), ...schema["x-values"].map((value) => option(value)));
  const made = labelled(name, input);
  made.part.querySelector(".state").hidden = true; // the choice says it itself
  return { ...made, read: () => input.value || null };
}

function threeWays(name) {
  const part = element("fieldset", "field", "");
  const ways = element("div", "ways", "");
  const inputs = SWITCH.map(([value, words], place) => {
    const input = box("radio", { name: identifier(name), value, id: `${identifier(name)}-${place}`, checked: !value });
    const label = Object.assign(element("label", "", words), { htmlFor: input.id });
    ways.append(input, label);
    return input;
  });
  part.append(element("legend", "", name), ways);
  const fill = (value) => inputs.forEach((input) => { input.checked = input.value === String(value ?? ""); });
  const read = () => {
    const { value } = inputs.find((input) => input.checked);
    return value ? value === "true" : null;
  };
  return { part, fill, read };
}

// The box of the row's own id, by which its outcome finds it later.
function idBox(name) {
  const input = box("text", { maxLength: 200, placeholder: "the row's own id" });
  const made = labelled(name, input);
  made.part.querySelector(".state").hidden = true;
  return { name, example: null, ...made, read: () => input.value.trim() || null };
}
