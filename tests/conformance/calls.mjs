// Makes each call that it reads (a line of JSON each) with the official Node client, and writes what came back.
//   node calls.mjs PACKAGE BASE_URL KEY < calls > answers
// A call: {name: "chat.completions.create", ids: {…}, body: {…}}; {"$file": [name, text]} within a body is a file.
import { createInterface } from "node:readline";

const [at, baseURL, apiKey] = process.argv.slice(2);
const { default: OpenAI, toFile } = await import(at);
const client = new OpenAI({ baseURL, apiKey, adminAPIKey: apiKey, maxRetries: 0 });

const camel = (name) => name.replace(/_(\w)/g, (_, letter) => letter.toUpperCase());

async function withFiles(value) {
  if (Array.isArray(value)) return Promise.all(value.map(withFiles));
  if (value === null || typeof value !== "object") return value;
  if (value.$file) return toFile(Buffer.from(value.$file[1]), value.$file[0]);
  const entries = Object.entries(value).map(async ([name, inner]) => [name, await withFiles(inner)]);
  return Object.fromEntries(await Promise.all(entries));
}

async function answer({ name, ids, body }) {
  const names = name.split(".").map(camel);
  const method = names.pop();
  const owner = names.reduce((found, each) => found?.[each], client);
  if (typeof owner?.[method] !== "function") return { missing: true };
  // The last id of a path stands for itself, those before it are among the parameters.
  const values = Object.entries(ids);
  const last = values.pop();
  const parameters = { ...Object.fromEntries(values), ...(await withFiles(body)) };
  const given = [...(last ? [last[1]] : []), ...(Object.keys(parameters).length ? [parameters] : [])];
  try {
    const response = await owner[method](...given).asResponse();
    const content = Buffer.from(await response.arrayBuffer()).toString("base64");
    return { status: response.status, content, headers: Object.fromEntries(response.headers) };
  } catch (error) {
    if (error.status === undefined) return { failed: String(error) };
    const content = Buffer.from(JSON.stringify(error.error ?? null)).toString("base64");
    return { status: error.status, content, headers: Object.fromEntries(error.headers) };
  }
}

for await (const line of createInterface({ input: process.stdin })) {
  console.log(JSON.stringify(await answer(JSON.parse(line))));
}
