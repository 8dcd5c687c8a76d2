// @ts-check
/** A JSON schema as it is typed, and whether an answer fits it. */

const TYPES = ["object", "array", "string", "number", "integer", "boolean", "null"];
const DEEPEST = 32;

/**
 * Read what was typed: the schema, or what is wrong with it.
 * @param {string} text
 * @returns {{schema: any, fault: null} | {schema: null, fault: string}}
 */
export function readSchema(text) {
  let schema;
  try {
    schema = JSON.parse(text);
  } catch (error) {
    return { schema: null, fault: `This is not JSON: ${where(text, /** @type {Error} */ (error).message)}` };
  }
  if (schema?.type !== "object") return { schema: null, fault: "A schema for an answer must be of type object: {\"type\": \"object\", \"properties\": {…}}." };
  const fault = faultIn(schema, "", 0);
  return fault ? { schema: null, fault } : { schema, fault: null };
}

/** The reason with its line, where the browser tells the position. @param {string} text @param {string} reason */
function where(text, reason) {
  const found = /position (\d+)/.exec(reason);
  const line = found ? text.slice(0, Number(found[1])).split("\n").length : 0;
  return `${reason.slice(0, 160).replace(/\s*\(?(?:in JSON )?at position.*$/, "")}${line ? `, line ${line}` : ""}.`;
}

/** What is wrong with a part of a schema. @param {any} part @param {string} path @param {number} depth @returns {string | null} */
function faultIn(part, path, depth) {
  const at = path || "the schema";
  if (typeof part === "boolean") return null;
  if (typeof part !== "object" || part === null || Array.isArray(part)) return `${at} must be an object.`;
  if (depth > DEEPEST) return `${at} is too deep.`;
  for (const type of [part.type ?? []].flat()) if (!TYPES.includes(type)) return `${at}: “${String(type).slice(0, 40)}” is no type; there are ${TYPES.join(", ")}.`;
  if (part.required !== undefined && !(Array.isArray(part.required) && part.required.every((/** @type {any} */ each) => typeof each === "string"))) return `${at}: required must be a list of names.`;
  const missing = (part.required ?? []).find((/** @type {string} */ name) => part.properties && !(name in part.properties));
  if (missing !== undefined) return `${at}: “${missing.slice(0, 40)}” is required, but it is not among the properties.`;
  if (part.properties !== undefined && (typeof part.properties !== "object" || part.properties === null)) return `${at}: properties must be an object.`;
  for (const [name, each] of Object.entries(part.properties ?? {})) {
    const fault = faultIn(each, `${path ? `${path}.` : ""}${name.slice(0, 40)}`, depth + 1);
    if (fault) return fault;
  }
  return part.items === undefined ? null : faultIn(part.items, `${path}[]`, depth + 1);
}

/**
 * Why a value does not fit, in words; null where it does. Types, required, properties, items and enum are looked at.
 * @param {any} value
 * @param {any} schema
 * @param {string} [path]
 * @returns {string | null}
 */
export function misfit(value, schema, path = "the answer") {
  if (typeof schema !== "object" || schema === null) return schema === false ? `${path} should not be there` : null;
  const types = [schema.type ?? []].flat();
  if (types.length && !types.some((type) => isOf(value, type))) return `${path} is not of type ${types.join(" or ")}`;
  if (Array.isArray(schema.enum) && !schema.enum.some((/** @type {any} */ each) => JSON.stringify(each) === JSON.stringify(value))) return `${path} is none of the values that it may have`;
  if (Array.isArray(value)) {
    return schema.items === undefined ? null : value.reduce((found, each, place) => found ?? misfit(each, schema.items, `${path}[${place}]`), /** @type {string | null} */ (null));
  }
  if (typeof value !== "object" || value === null) return null;
  const missing = (schema.required ?? []).find((/** @type {string} */ name) => !Object.hasOwn(value, name));
  if (missing !== undefined) return `${path} has no “${missing}”`;
  for (const [name, each] of Object.entries(value)) {
    const known = schema.properties && Object.hasOwn(schema.properties, name);
    const part = known ? schema.properties[name] : schema.additionalProperties;
    const fault = part === undefined ? null : misfit(each, part, `“${name.slice(0, 40)}”`);
    if (fault) return fault;
  }
  return null;
}

/** @param {any} value @param {string} type */
function isOf(value, type) {
  switch (type) {
    case "null": return value === null;
    case "array": return Array.isArray(value);
    case "object": return typeof value === "object" && value !== null && !Array.isArray(value);
    case "integer": return Number.isInteger(value);
    default: return typeof value === type;
  }
}
