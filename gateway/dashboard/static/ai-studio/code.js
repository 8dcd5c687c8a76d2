// @ts-check
/** The request as code: curl, Python, Node. The key is read from the environment: no page ever has it. */

/** @typedef {{model: string, messages: any[], temperature?: number, max_tokens?: number, response_format?: any}} Body */

/** @param {Body} body @param {string} origin @returns {Record<string, string>} */
export function asCode(body, origin) {
  const base = `${origin}/v1`;
  return { curl: curl(body, base), Python: python(body, base), Node: node(body, base) };
}

/** @param {Body} body @param {string} base */
function curl(body, base) {
  const data = JSON.stringify(body, null, 2).replaceAll("'", "'\\''");
  return `curl ${base}/chat/completions \\\n  -H "Authorization: Bearer $ECLI_KEY" \\\n  -H "Content-Type: application/json" \\\n  -d '${data}'`;
}

/** @param {Body} body @param {string} base */
function python(body, base) {
  const fields = Object.entries(body).map(([name, value]) => `    ${name}=${literal(value, 1)},`);
  return `import os

from openai import OpenAI

client = OpenAI(base_url=${JSON.stringify(base)}, api_key=os.environ["ECLI_KEY"])
completion = client.chat.completions.create(
${fields.join("\n")}
)
print(completion.choices[0].message.content)`;
}

/** @param {Body} body @param {string} base */
function node(body, base) {
  return `import OpenAI from "openai";

const client = new OpenAI({ baseURL: ${JSON.stringify(base)}, apiKey: process.env.ECLI_KEY });
const completion = await client.chat.completions.create(${JSON.stringify(body, null, 2)});
console.log(completion.choices[0].message.content);`;
}

/** A value as Python writes it. @param {any} value @param {number} depth @returns {string} */
function literal(value, depth) {
  const [inner, outer] = ["    ".repeat(depth + 1), "    ".repeat(depth)];
  if (value === null) return "None";
  if (typeof value === "boolean") return value ? "True" : "False";
  if (typeof value !== "object") return JSON.stringify(value);
  const isList = Array.isArray(value);
  const parts = isList ? value.map((each) => literal(each, depth + 1)) : Object.entries(value).map(([name, each]) => `${JSON.stringify(name)}: ${literal(each, depth + 1)}`);
  const [open, close] = isList ? "[]" : "{}";
  return parts.length ? `${open}\n${parts.map((each) => `${inner}${each},\n`).join("")}${outer}${close}` : open + close;
}
