/** One flat field for each argument of a tool, for what an agent's connection says of them. */
import { Invalid } from "../models/errors.ts";
import type { ArgumentField } from "../views/tool_change.tsx";
import { numberAsWritten, parseJson } from "./json_text.ts";

/**
 * One field for each property of an input schema: text, number, yes or no, a choice; JSON for what
 * has no field of its own (arrays, objects, several types). A schema that is no object's has none.
 */
export function argumentFields(schema: unknown): ArgumentField[] {
  const { properties, required } = (schema ?? {}) as Record<string, unknown>;
  if (typeof properties !== "object" || properties === null) return [];
  const needed = new Set(Array.isArray(required) ? required : []);
  return Object.entries(properties).slice(0, 100).map(([name, value]) => {
    const property = (typeof value === "object" && value !== null ? value : {}) as Record<
      string,
      unknown
    >;
    const choices = Array.isArray(property.enum) && property.enum.every((item) =>
        typeof item === "string"
      )
      ? property.enum as string[]
      : undefined;
    const initial = property.default;
    return {
      name,
      field: `arg.${name}`,
      description: typeof property.description === "string"
        ? property.description.slice(0, 1000)
        : undefined,
      required: needed.has(name),
      kind: choices ? "choice" : kindOf(property.type),
      choices,
      initial: initial === undefined
        ? undefined
        : typeof initial === "string"
        ? initial
        : JSON.stringify(initial),
    };
  });
}

function kindOf(type: unknown): ArgumentField["kind"] {
  switch (type) {
    case "string":
      return "string";
    case "number":
    case "integer":
      return "number";
    case "boolean":
      return "boolean";
    default:
      return "json";
  }
}

/**
 * The arguments that a form holds. An empty field is left out, unless the tool needs a text there.
 *
 * @throws {Invalid} naming the fields that do not hold
 */
export function argumentsOf(
  fields: ArgumentField[],
  values: Record<string, string>,
): Record<string, unknown> {
  const args: Record<string, unknown> = {};
  const mistakes: Record<string, string> = {};
  for (const { field, name, kind, required } of fields) {
    const text = values[field] ?? "";
    if (text === "" && !(required && kind === "string")) {
      if (required && kind !== "boolean") mistakes[field] = `${name} is needed`;
      continue;
    }
    try {
      define(args, name, valueOf(kind, text));
    } catch {
      mistakes[field] = kind === "number"
        ? `${name} must be a number`
        : `${name} must be valid JSON`;
    }
  }
  if (Object.keys(mistakes).length > 0) {
    throw new Invalid("Some arguments need attention", mistakes);
  }
  return args;
}

function valueOf(kind: ArgumentField["kind"], text: string): unknown {
  if (kind === "boolean") return text === "true";
  if (kind === "json") return parseJson(text);
  if (kind !== "number") return text;
  const number = Number(text);
  if (!Number.isFinite(number)) throw new TypeError("Not a number");
  return numberAsWritten(text, number);
}

/** As its own property, whatever it is called (`__proto__`). */
function define(target: Record<string, unknown>, name: string, value: unknown) {
  Object.defineProperty(target, name, {
    value,
    enumerable: true,
    configurable: true,
    writable: true,
  });
}
