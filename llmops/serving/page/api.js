// The page of /openapi.json: each address with what it takes, what it gives, and a call to copy.
"use strict";

const DEEPEST = 3;
let doc = null;

const known = (schema) => (schema?.$ref ? known(doc.components.schemas[schema.$ref.split("/").pop()]) : schema ?? {});

// The ways in which a value may come.
function ways(schema) {
  const told = known(schema);
  const found = told.anyOf ?? told.oneOf;
  return found ? found.flatMap(ways) : [told];
}

function kindOf(schema) {
  const kinds = ways(schema).map((one) => {
    if (one.const !== undefined) return JSON.stringify(one.const);
    if (one.enum) return one.enum.map((value) => JSON.stringify(value)).join(" or ");
    if (one.type === "array") return `list of ${kindOf(one.items) || "anything"}`;
    return Array.isArray(one.type) ? one.type.join(" or ") : one.type ?? "";
  });
  return [...new Set(kinds.filter(Boolean))].join(" or ");
}

function bounds(schema) {
  const told = ways(schema);
  const least = told.map((one) => one.minimum ?? one.exclusiveMinimum).find((value) => value !== undefined);
  const most = told.map((one) => one.maximum ?? one.exclusiveMaximum).find((value) => value !== undefined);
  return [least !== undefined && `from ${least}`, most !== undefined && `to ${most}`].filter(Boolean).join(" ");
}

// The properties of an object, or of the objects that a list holds.
function inside(schema) {
  const told = ways(schema);
  const list = told.find((one) => one.type === "array" && one.items);
  return told.find((one) => one.properties) ?? (list ? inside(list.items) : undefined);
}

// A line for each field; of a body, `asked` says which must be sent.
function fields(schema, asked, within = "", depth = 1) {
  const told = inside(schema);
  return Object.entries(told?.properties ?? {}).flatMap(([name, one]) => {
    const must = asked && told.required?.includes(name);
    const line = field(within + name, [kindOf(one), bounds(one)].filter(Boolean).join(", "), must, one.description);
    return depth < DEEPEST ? [line, ...fields(one, asked, `${within}${name}.`, depth + 1)] : [line];
  });
}

function field(name, kind, must, words) {
  const part = element("div", "", "");
  const top = element("dt", "", "");
  top.append(element("span", "field-name", name), element("span", "kind", kind));
  if (must) top.append(element("span", "must", "required"));
  part.append(top, element("dd", "", words ?? ""));
  return part;
}

// What a body or an answer holds; where it may come in several ways, each of them.
function holds(title, schema, asked) {
  const parts = ways(schema).map((one, number) => {
    const lines = element("dl", "", "");
    lines.append(...fields(one, asked));
    const heading = element("h3", "", number ? "or" : title);
    return lines.children.length ? [heading, lines] : [];
  });
  return parts.flat();
}

function call(path, method, body) {
  const at = new URL(path.replace(/^\//, ""), document.baseURI).href;
  if (method === "get") return `curl ${at}`;
  const said = JSON.stringify(body.example).replaceAll("'", "'\\''");
  return `curl ${at} -H 'Content-Type: application/json' -d '${said}'`;
}

function shown(path, method, told) {
  const part = element("section", "card", "");
  part.id = told.operationId;
  const top = element("div", "address", "");
  top.append(element("span", "method", method.toUpperCase()), element("h2", "", path));
  const body = told.requestBody?.content["application/json"];
  const gives = told.responses["200"].content["application/json"]?.schema;
  part.append(top, element("p", "", `${told.summary}.`), element("pre", "", call(path, method, body)));
  if (body) part.append(...holds("It takes", body.schema, true));
  if (gives) part.append(...holds("It gives", gives, false));
  return part;
}

function listed(path, method, told) {
  const line = element("li", "", "");
  const link = Object.assign(element("a", "", path), { href: `#${told.operationId}` });
  line.append(element("span", "method", method.toUpperCase()), link, element("span", "quiet", told.summary));
  return line;
}

async function introduce() {
  doc = await (await asked("openapi.json")).json();
  const every = Object.entries(doc.paths).flatMap(([path, at]) => Object.entries(at).map(([method, told]) => [path, method, told]));
  $("about").textContent = `${doc.info.title}, version ${doc.info.version}. A wrong request gets a 4xx with what is wrong and what to do.`;
  $("addresses").replaceChildren(...every.map((one) => listed(...one)));
  $("operations").replaceChildren(...every.map((one) => shown(...one)));
}
introduce().catch(trouble);
