/** What of a server an agent gets, and how: the options of a connection. */
import { z } from "zod";
import type { ToolDefinition } from "../dtma/protocol.ts";
import { isRawNumber, parseExactly } from "./exact_json.ts";

const Json = z.custom<unknown>(isKept);

/** What is changed of one tool for one agent. */
export const ToolChange = z.object({
  /** In place of the tool's own name. */
  name: z.string().regex(/^[a-zA-Z0-9_-]{1,40}$/).optional(),
  /** In place of the tool's own description. */
  description: z.string().max(4000).optional(),
  /** Arguments that the caller may leave out. */
  defaults: z.record(z.string().max(200), Json).optional(),
  /** Arguments that the caller has no say in: they are not in the schema that it sees. */
  fixed: z.record(z.string().max(200), Json).optional(),
  /** How many calls the agent may make of it in a minute. */
  perMinute: z.int().min(1).max(100_000).optional(),
  /** How many of its calls may be under way at once. */
  atOnce: z.int().min(1).max(512).optional(),
});
export type ToolChange = z.infer<typeof ToolChange>;

/** How often an agent may call a tool. */
export type CallLimits = Pick<ToolChange, "perMinute" | "atOnce">;

export const ConnectionOptions = z.object({
  /** The tools that the agent gets, by the server's own names; null: what the agent's default says. */
  tools: z.array(z.string().max(1024)).max(1000).nullable().default(null),
  /** By the server's own names. */
  changes: z.record(z.string().max(1024), ToolChange).default({}),
});
export type ConnectionOptions = z.infer<typeof ConnectionOptions>;

/** Reads options as they are kept, as text: the database's driver would round their numbers. */
export function readConnectionOptions(text: string): ConnectionOptions {
  return ConnectionOptions.parse(parseExactly(text));
}

/**
 * Whether a value is one of JSON that can be kept. Numbers may be of any length (exact_json.ts), but an exponent is a
 * double's: the database writes out all digits of a number, of which `1e-9999` has many, and refuses one of more
 * than 16,383 behind the point.
 */
function isKept(value: unknown): boolean {
  if (isRawNumber(value)) return /^[-.\d]{1,1000}$/.test(JSON.stringify(value));
  if (typeof value === "number") return Number.isFinite(value);
  if (typeof value !== "object") return typeof value === "string" || typeof value === "boolean";
  return value === null || Object.values(value).every(isKept);
}

/** Whether the agent gets a tool. */
export function isAllowed(
  { tools }: ConnectionOptions,
  name: string,
  deniesByDefault: boolean,
): boolean {
  return tools === null ? !deniesByDefault : tools.includes(name);
}

/** A tool's definition as the agent sees it: fixed arguments are not in its schema. */
export function changedDefinition(definition: ToolDefinition, change: ToolChange): ToolDefinition {
  const { description, defaults = {}, fixed = {} } = change;
  const shown = description === undefined ? definition : { ...definition, description };
  const named = [...Object.keys(defaults), ...Object.keys(fixed)];
  const schema = definition.inputSchema;
  if (named.length === 0 || !isObject(schema)) return shown;
  const properties = { ...(isObject(schema.properties) ? schema.properties : {}) };
  for (const name of Object.keys(fixed)) delete properties[name];
  for (const [name, value] of Object.entries(defaults)) {
    const property = Object.hasOwn(properties, name) ? properties[name] : undefined;
    if (isObject(property)) properties[name] = { ...property, default: value };
  }
  const required = Array.isArray(schema.required)
    ? { required: schema.required.filter((name) => !named.includes(name)) }
    : {};
  return { ...shown, inputSchema: { ...schema, properties, ...required } };
}

/** Null where a change limits nothing. */
export function callLimits({ perMinute, atOnce }: ToolChange): CallLimits | null {
  return perMinute === undefined && atOnce === undefined ? null : { perMinute, atOnce };
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
