// Documentation of the API, from /openapi.json: without scripts of others and without internet.

import { get } from "./api.js";
import { by, el } from "./dom.js";

const CHANGING = ["post", "put", "delete", "patch"];

function typeOf(schema, all) {
  if (!schema) return "";
  if (schema.$ref) return schema.$ref.split("/").at(-1);
  if (schema.anyOf) return schema.anyOf.map((one) => typeOf(one, all)).join(" or ");
  if (schema.enum) return schema.enum.join(" | ");
  if (schema.const !== undefined) return String(schema.const);
  if (schema.type === "array") return `list of ${typeOf(schema.items, all) || "anything"}`;
  if (schema.additionalProperties && schema.type === "object") return `name to ${typeOf(schema.additionalProperties, all) || "anything"}`;
  return schema.format || schema.type || "anything";
}

function limits(schema) {
  const known = { minimum: "from", maximum: "to", maxLength: "characters at most", pattern: "like" };
  return Object.entries(known).filter(([key]) => schema?.[key] !== undefined).map(([key, word]) => `${word} ${schema[key]}`).join(", ");
}

function table(rows, all) {
  return el("table", {}, el("tbody", {}, rows.map(([name, schema, needed, text]) =>
    el("tr", {}, el("td", { class: "mono" }, name, needed ? " *" : ""), el("td", {}, typeOf(schema, all)), el("td", { class: "muted" }, [text, limits(schema)].filter(Boolean).join("; "))),
  )));
}

function fields(schema, all) {
  const name = schema?.$ref?.split("/").at(-1);
  const found = name ? all[name] : schema?.type === "array" ? all[schema.items?.$ref?.split("/").at(-1)] : schema;
  return Object.entries(found?.properties ?? {}).map(([key, one]) => [key, one, found.required?.includes(key), one.description]);
}

function endpoint(path, method, described, all) {
  const parts = [];
  const parameters = described.parameters ?? [];
  if (parameters.length) parts.push(el("h3", {}, "Parameters"), table(parameters.map((one) => [one.name, one.schema, one.required, one.description]), all));
  const body = described.requestBody?.content?.["application/json"]?.schema;
  if (body) parts.push(el("h3", {}, "Body"), table(fields(body, all), all));
  for (const [status, answer] of Object.entries(described.responses)) {
    if (Number(status) >= 400) continue;
    const [kind, content] = Object.entries(answer.content ?? {})[0] ?? ["nothing", {}];
    parts.push(el("h3", {}, `${status}: ${typeOf(content.schema, all) || kind} (${kind})`), table(fields(content.schema, all), all));
  }
  const problems = Object.entries(described.responses).filter(([status]) => Number(status) >= 400).map(([status, answer]) => `${status} ${answer.description}`);
  if (problems.length) parts.push(el("h3", {}, "Problems"), el("p", { class: "muted" }, problems.join(", ")));
  return el(
    "details", { class: "card" },
    el("summary", {}, el("span", { class: "method", "data-changes": CHANGING.includes(method) }, method.toUpperCase()), el("code", {}, path), el("span", { class: "muted" }, described.description ?? described.summary)),
    el("div", { class: "of" }, parts),
  );
}

async function show() {
  let api;
  try {
    api = await get("/openapi.json");
  } catch (problem) {
    by("about").replaceChildren(problem.status === 401 ? el("a", { href: "/" }, "Sign in to see the list") : problem.message);
    return;
  }
  by("about").replaceChildren(`${api.info.summary}. Version ${api.info.version}, machine-readable as `, el("a", { href: "/openapi.json" }, "openapi.json"), ". * stands by what must be given.");
  const groups = new Map();
  for (const [path, methods] of Object.entries(api.paths)) {
    for (const [method, described] of Object.entries(methods)) {
      const tag = described.tags?.[0] ?? "other";
      groups.set(tag, [...(groups.get(tag) ?? []), endpoint(path, method, described, api.components.schemas)]);
    }
  }
  by("endpoints").replaceChildren(...[...groups].flatMap(([tag, rows]) => [el("h2", {}, tag), ...rows]));
}

show();
