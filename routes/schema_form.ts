/** A form out of a JSON Schema, and the value out of the form. */
import { isObject } from "../mcp/revisions.ts";
import { Invalid } from "../models/errors.ts";
import { isRawNumber } from "../models/exact_json.ts";
import type { Choice, FormPart, FormRow } from "../views/schema_fields.tsx";
import { type Schema, shapeOf } from "./input_schema.ts";
import { numberAsWritten, parseJson } from "./json_text.ts";

export type Values = Record<string, string>;

/** Deeper parts are written as JSON, and so are those beyond so many: nobody fills in such a form. */
const DEPTH_LIMIT = 6;
const PARTS_LIMIT = 400;
const ROWS_LIMIT = 100;
const CHECKBOXES_LIMIT = 24;

/**
 * The form of a schema as far as it is filled in: which rows there are and which alternative is chosen
 * is in its values.
 *
 * @param name how the names of its fields begin
 * @param isTitled fields are called by their titles alone, since who fills them in knows no names
 * @returns the values with what the form begins with beside what was given
 */
export function formFor(
  schema: unknown,
  given: Values,
  name = "arg",
  isTitled = false,
): { part: FormPart; values: Values } {
  const values: Values = Object.assign(Object.create(null), given);
  const part = new Builder(schema, values, isTitled).part(schema, {
    field: name,
    label: "Arguments",
    required: true,
    insisted: true,
    depth: 0,
    references: [],
  });
  return { part, values };
}

/** The form filled with a value; `raw` holds what its fields cannot. */
export function filledForm(schema: unknown, value: unknown): { part: FormPart; values: Values } {
  const values: Values = Object.create(null);
  const part = new Builder(schema, values).part(schema, {
    field: "arg",
    label: "Arguments",
    required: true,
    insisted: true,
    depth: 0,
    references: [],
    value,
  });
  if (!holds(part, values, value)) values.raw = JSON.stringify(value, null, 2);
  return { part, values };
}

/** Applies a button of the form: `add <field>` and `remove <row> <field>`; all else shows it again. */
export function changed(values: Values, act: string): Values {
  const [, removed, field] = /^(?:add|remove (\d+)) (.+)$/s.exec(act) ?? [];
  if (field === undefined) return values;
  const rows = rowsOf(values, field);
  const next = removed !== undefined
    ? rows.filter((id) => id !== removed)
    : rows.length < ROWS_LIMIT
    ? [...rows, String(Math.max(-1, ...rows.map(Number)) + 1)]
    : rows;
  return { ...values, [`${field}#rows`]: next.join(",") };
}

interface Place {
  field: string;
  label: string;
  required: boolean;
  insisted: boolean;
  depth: number;
  /** The references that lead here, but for those that a person's adding of a row stands between. */
  references: string[];
  /** What to fill in; undefined for nothing. */
  value?: unknown;
}

class Builder {
  #count = 0;
  constructor(readonly root: unknown, readonly values: Values, readonly isTitled = false) {}

  part(value: unknown, place: Place): FormPart {
    const shape = shapeOf(value, this.root);
    const { schema } = shape;
    const { field, label, required, insisted, depth } = place;
    const reference = isObject(value) && typeof value.$ref === "string" ? value.$ref : null;
    const isNullable = shape.kind !== "odd" && shape.isNullable;
    const known = place.value === undefined ? this.#default(schema, field) : place.value;
    const about = {
      field,
      label: depth > 0 ? labelOf(label, schema.title, this.isTitled) : label,
      help: typeof schema.description === "string" && depth > 0
        ? schema.description.slice(0, 1000)
        : undefined,
      required,
      insisted: insisted && required,
      isNullable,
      initial: initialOf(schema.default),
    };
    // Optional with the default null, as Python's servers write "may be left out": it is left out.
    if (isNullable && known === null && (required || place.value === null)) {
      this.#put(`${field}#null`, "true");
    }
    const json = (): FormPart => {
      if (known !== undefined) this.#put(field, JSON.stringify(known, null, 2) ?? "");
      return { ...about, isNullable: false, kind: "json" };
    };
    const isEndless = reference !== null && place.references.includes(reference);
    const isTooMuch = ++this.#count > PARTS_LIMIT || depth > DEPTH_LIMIT;
    if (shape.kind === "odd" || isEndless || isTooMuch) {
      return json();
    }
    const inside: Place = {
      ...place,
      insisted: about.insisted && !isNullable,
      depth: depth + 1,
      references: reference === null ? place.references : [...place.references, reference],
      value: known === null ? undefined : known,
    };
    if (shape.kind === "alternatives") {
      const choices = choicesOf(shape.of, this.root);
      return choices
        ? this.#choice(about, choices, known)
        : { ...about, ...this.#alternatives(shape.of, inside) };
    }
    if ("const" in schema) {
      if (!required && known !== undefined) this.#put(field, "true");
      return { ...about, kind: "constant", value: schema.const };
    }
    if (Array.isArray(schema.enum)) {
      const names = Array.isArray(schema.enumNames) ? schema.enumNames : [];
      const choices = asChoices(schema.enum.map((value, index) => [value, names[index]]));
      return this.#choice(about, choices, known);
    }
    switch (typeOf(schema)) {
      case "string":
        if (typeof known === "string") this.#put(field, known);
        return { ...about, ...textOf(schema, nameIn({ field })) };
      case "number":
      case "integer":
        if (typeof known === "number" || isRawNumber(known)) {
          this.#put(field, JSON.stringify(known));
        }
        return {
          ...about,
          kind: "number",
          isInteger: schema.type === "integer",
          min: number(schema.minimum),
          max: number(schema.maximum),
          above: number(schema.exclusiveMinimum),
          below: number(schema.exclusiveMaximum),
          multipleOf: number(schema.multipleOf),
        };
      case "boolean":
        if (typeof known === "boolean") this.#put(field, String(known));
        return { ...about, kind: "boolean" };
      case "array":
        return this.#list(schema, about, inside) ?? json();
      case "object":
        return this.#object(schema, about, inside) ?? json();
      default:
        return json();
    }
  }

  /** A default is filled in where nothing was typed, which an empty field is not. */
  #default(schema: Schema, field: string): unknown {
    const isTyped = Object.keys(this.values).some((key) => isUnder(key, field));
    return isTyped ? undefined : schema.default;
  }

  #put(key: string, text: string) {
    this.values[key] ??= text;
  }

  #choice(
    about: Omit<FormPart, "kind"> & { field: string },
    choices: Choice[],
    known: unknown,
  ): FormPart {
    const chosen = choices.find(({ value }) => same(value, known));
    if (known !== undefined && chosen) this.#put(about.field, chosen.text);
    return { ...about, kind: "choice", choices } as FormPart;
  }

  #alternatives(of: Schema[], place: Place) {
    const { field, value } = place;
    const key = `${field}#choice`;
    const build = (index: number, values: Values, root: unknown) =>
      new Builder(root, values).part(of[index], place);
    if (value !== undefined) {
      const index = of.findIndex((_, index) => {
        const values: Values = Object.create(null);
        return holds(build(index, values, this.root), values, value);
      });
      if (index >= 0) this.#put(key, String(index));
    }
    const chosen = of[Number(this.values[key])] ? Number(this.values[key]) : 0;
    const part = this.part({ ...of[chosen], description: undefined }, {
      ...place,
      label: place.label,
    });
    const names = of.map((schema, index) => nameOf(schema, index));
    return { kind: "alternatives" as const, names, chosen, part };
  }

  #list(schema: Schema, about: object, place: Place): FormPart | null {
    const { field, value } = place;
    const items = schema.items ?? {};
    if ("prefixItems" in schema || Array.isArray(items)) return null;
    const min = number(schema.minItems), max = number(schema.maxItems);
    const choices = choicesIn(items, this.root);
    if (choices && choices.length <= CHECKBOXES_LIMIT) {
      if (Array.isArray(value)) {
        for (const [index, choice] of choices.entries()) {
          if (value.some((one) => same(one, choice.value))) this.#put(`${field}.${index}`, "true");
        }
      }
      return { ...about, kind: "set", choices, min, max } as FormPart;
    }
    const given = Array.isArray(value) ? value.slice(0, ROWS_LIMIT) : null;
    const first = given?.length ?? (place.insisted ? Math.min(min ?? 0, 5) : 0);
    if (this.values[`${field}#rows`] === undefined) {
      this.#put(`${field}#rows`, Array.from({ length: first }, (_, index) => index).join(","));
    }
    const rows = rowsOf(this.values, field).map((id, index): FormRow => ({
      id,
      part: this.part(items, {
        ...place,
        field: `${field}.${id}`,
        label: `Row ${index + 1}`,
        required: true,
        references: [],
        value: given?.[index],
      }),
    }));
    return {
      ...about,
      kind: "list",
      rows,
      min,
      max,
      isUnique: schema.uniqueItems === true,
    } as FormPart;
  }

  #object(schema: Schema, about: object, place: Place): FormPart | null {
    const { field, value } = place;
    if ("patternProperties" in schema) return null;
    const properties = isObject(schema.properties) ? schema.properties : {};
    if (this.#count + Object.keys(properties).length > PARTS_LIMIT) return null;
    const required = Array.isArray(schema.required) ? schema.required : [];
    const extra = schema.additionalProperties;
    const isOpen = isObject(extra) || extra === true;
    // Names that must be there, and of which nothing is said.
    if (required.some((name) => !Object.hasOwn(properties, String(name)))) return null;
    const given = isObject(value) ? value : null;
    const members = Object.entries(properties).map(([name, one]) =>
      this.part(one, {
        ...place,
        field: `${field}.${asField(name)}`,
        label: name,
        required: required.includes(name),
        value: given
          ? Object.hasOwn(given, name) ? given[name] : ABSENT
          : value === ABSENT
          ? ABSENT
          : undefined,
      })
    );
    // `{}` with nothing said of it takes any names: as JSON, but for a tool's own arguments.
    const isBare = members.length === 0 && !isOpen && extra !== false;
    if (isBare && place.depth > 1) return null;
    const others = given
      ? Object.keys(given).filter((name) => !Object.hasOwn(properties, name))
      : [];
    if (isOpen && this.values[`${field}#rows`] === undefined) {
      this.#put(`${field}#rows`, others.slice(0, ROWS_LIMIT).map((_, index) => index).join(","));
      for (const [index, name] of others.entries()) this.#put(`${field}#key.${index}`, name);
    }
    const rows = isOpen
      ? rowsOf(this.values, field).map((id): FormRow => ({
        id,
        keyField: `${field}#key.${id}`,
        part: this.part(extra, {
          ...place,
          field: `${field}#value.${id}`,
          label: "Its value",
          required: true,
          references: [],
          value: given && others[Number(id)] !== undefined ? given[others[Number(id)]] : undefined,
        }),
      }))
      : null;
    const min = number(schema.minProperties), max = number(schema.maxProperties);
    return { ...about, kind: "object", members, rows, min, max } as FormPart;
  }
}

/** Python's servers make titles of names (`user_id`, "User Id"): those say nothing more. */
function labelOf(name: string, title: unknown, isTitled: boolean): string {
  if (typeof title !== "string" || !title) return name;
  const words = (text: string) => text.toLowerCase().replace(/[^\p{L}\p{N}]/gu, "");
  if (isTitled) return title.slice(0, 200);
  return words(title) === words(name) ? name : `${name} (${title.slice(0, 200)})`;
}

/** What a default is in a form field, where it has one of its own. */
function initialOf(value: unknown): string | undefined {
  if (typeof value === "string") return value;
  return value == null || isObject(value) ? undefined : JSON.stringify(value);
}

/** Nothing to fill in, not the schema's default either. */
const ABSENT = Symbol("absent");

function asField(name: string): string {
  return name.replace(/[%.#\s]/gu, (char) => encodeURIComponent(char).replace(".", "%2E"));
}

function isUnder(key: string, field: string): boolean {
  return key.startsWith(field) && (key.length === field.length || ".#".includes(key[field.length]));
}

function rowsOf(values: Values, field: string): string[] {
  const rows = (values[`${field}#rows`] ?? "").split(",").filter((id) => /^\d{1,6}$/.test(id));
  return [...new Set(rows)].slice(0, ROWS_LIMIT);
}

function typeOf({ type, properties, additionalProperties, items }: Schema): unknown {
  if (type !== undefined) return type;
  if (isObject(properties) || isObject(additionalProperties)) return "object";
  return items !== undefined ? "array" : undefined;
}

function number(value: unknown): number | undefined {
  return typeof value === "number" ? value : undefined;
}

const PLACEHOLDERS: Record<string, string> = {
  "date-time": "2026-01-31T12:00:00Z",
  date: "2026-01-31",
  time: "12:00:00Z",
  uuid: "00000000-0000-0000-0000-000000000000",
  uri: "https://example.com/",
  email: "name@example.com",
};

/** Arguments that go by these names are seldom of one line, whatever their schema leaves unsaid. */
const LONG = /^(body|code|content|contents|html|markdown|message|prompt|script|source|sql|text)$/i;

function textOf(schema: Schema, name: string) {
  if (schema.contentEncoding === "base64" || schema.format === "byte") {
    const type = schema.contentMediaType;
    return {
      kind: "file" as const,
      mediaType: typeof type === "string" ? type.slice(0, 100) : undefined,
    };
  }
  const format = typeof schema.format === "string" ? schema.format : undefined;
  const maxLength = number(schema.maxLength);
  return {
    kind: "text" as const,
    type: { email: "email", uri: "url", date: "date" }[format ?? ""] ?? "text",
    minLength: number(schema.minLength),
    maxLength,
    // For the browser alone: an expression of a stranger's may take for ever, which is then one tab's
    // trouble. The server checks its own arguments anyway.
    pattern: typeof schema.pattern === "string" && schema.pattern.length <= 500
      ? schema.pattern
      : undefined,
    placeholder: PLACEHOLDERS[format ?? ""],
    format,
    isLong: format === undefined && schema.pattern === undefined &&
      (maxLength === undefined ? LONG.test(name) : maxLength > 500),
  };
}

function asChoices(all: [value: unknown, title: unknown][]): Choice[] {
  const areTexts = all.every(([value]) => typeof value === "string");
  // An empty text is what a form sends where nothing is chosen.
  const arePlain = areTexts && all.every(([value]) => value !== "");
  return all.slice(0, 1000).map(([value, title]) => {
    const text = arePlain ? value as string : JSON.stringify(value);
    const shown = areTexts && value !== "" ? value as string : text;
    return { text, value, title: typeof title === "string" ? `${title} (${shown})` : shown };
  });
}

/** Alternatives that are one value each, as schemas name the choices of a list. */
function choicesOf(of: Schema[], root: unknown): Choice[] | null {
  const schemas = of.map((one) => shapeOf(one, root).schema);
  if (!schemas.every((schema) => "const" in schema)) return null;
  return asChoices(schemas.map((schema) => [schema.const, schema.title]));
}

function choicesIn(items: unknown, root: unknown): Choice[] | null {
  const shape = shapeOf(items, root);
  if (shape.kind === "alternatives") return shape.isNullable ? null : choicesOf(shape.of, root);
  const { schema } = shape;
  if (shape.kind === "odd" || shape.isNullable || !Array.isArray(schema.enum)) return null;
  return asChoices(schema.enum.map((value) => [value, undefined]));
}

function nameOf(schema: Schema, index: number): string {
  if (typeof schema.title === "string" && schema.title) return schema.title.slice(0, 200);
  const properties = isObject(schema.properties) ? Object.entries(schema.properties) : [];
  for (const [name, property] of properties) {
    if (isObject(property) && "const" in property) {
      return `${name} is ${JSON.stringify(property.const)}`.slice(0, 200);
    }
  }
  if (properties.length > 0) {
    return `With ${properties.map(([name]) => name).join(", ")}`.slice(0, 200);
  }
  if ("const" in schema) return JSON.stringify(schema.const).slice(0, 200);
  return typeof schema.type === "string" ? `${schema.type}` : `Choice ${index + 1}`;
}

/**
 * The arguments that a form holds. An empty field is left out, unless the tool needs a text there; an
 * optional object is left out when nothing in it was filled in.
 *
 * @throws {Invalid} naming the fields that do not hold
 */
export function argumentsOf(part: FormPart, values: Values): Record<string, unknown> {
  if (values.raw?.trim()) return rawArguments(values.raw);
  const value = valueOf(part, values);
  if (!isObject(value) || isRawNumber(value)) {
    const mistake = "The arguments must be an object, such as {}";
    throw new Invalid(mistake, { [part.field]: mistake });
  }
  return value;
}

/** What a form holds. @throws {Invalid} naming the fields that do not hold */
export function valueOf(part: FormPart, values: Values): unknown {
  const mistakes: Record<string, string> = {};
  const value = new Reader(values, mistakes).read(part);
  if (Object.keys(mistakes).length > 0) {
    throw new Invalid("Some arguments need attention", mistakes);
  }
  return value;
}

function holds(part: FormPart, values: Values, value: unknown): boolean {
  try {
    return same(valueOf(part, values), value);
  } catch {
    return false;
  }
}

class Reader {
  constructor(readonly values: Values, readonly mistakes: Record<string, string>) {}

  /** @returns undefined for what is left out */
  read(part: FormPart): unknown {
    const { field, required, isNullable, label } = part;
    const fail = (mistake: string) => void (this.mistakes[field] = mistake);
    if (isNullable && this.values[`${field}#null`] === "true") {
      return this.#isTyped(part)
        ? fail(`${label} is filled in, and ticked to be null: empty it or untick it`)
        : null;
    }
    const text = this.values[field] ?? "";
    const isEmpty = text === "";
    const needed = () => required ? fail(`${label} is needed`) : undefined;
    switch (part.kind) {
      case "text":
        if (isEmpty && !(required && !part.minLength && !isChecked(part.format))) return needed();
        return this.#check(field, text, textMistake(part, text));
      case "number": {
        if (text.trim() === "") return needed();
        const value = Number(text);
        if (!Number.isFinite(value)) return fail(`${label} must be a number`);
        return this.#check(field, numberAsWritten(text, value), numberMistake(part, value));
      }
      case "boolean":
        if (isEmpty && required && isNullable) return needed();
        return isEmpty && !required ? undefined : text === "true";
      case "choice": {
        const choice = part.choices.find((choice) => choice.text === text);
        if (choice) return choice.value;
        return isEmpty ? needed() : fail(`${label} must be one of the choices`);
      }
      case "constant":
        return required || text === "true" ? part.value : undefined;
      case "json":
        if (text.trim() === "") return needed();
        try {
          return parseJson(text);
        } catch (error) {
          return fail(`${label} must be valid JSON. ${(error as Error).message}`);
        }
      case "file":
        if (isEmpty) return needed();
        return this.#check(field, text.replace(/\s/g, ""), base64Mistake(text));
      case "set": {
        const chosen = part.choices.filter((_, index) =>
          this.values[`${field}.${index}`] === "true"
        ).map(({ value }) => value);
        if (chosen.length === 0 && !required) return undefined;
        return this.#check(field, chosen, countMistake(part, chosen.length));
      }
      case "list": {
        if (part.rows.length === 0 && !required) return undefined;
        const items = part.rows.map(({ part }) => this.read(part));
        const isRepeated = part.isUnique && new Set(items.map(sortedText)).size < items.length;
        return this.#check(
          field,
          items,
          isRepeated ? "No two rows may be the same" : countMistake(part, items.length),
        );
      }
      case "object":
        return this.#object(part);
      case "alternatives":
        if (!required && !this.#isTouched(part.part)) return undefined;
        return this.read({ ...part.part, required });
    }
  }

  #object(part: Extract<FormPart, { kind: "object" }>): unknown {
    if (!part.required && !this.#isTouched(part)) return undefined;
    const value: Record<string, unknown> = {};
    for (const member of part.members) {
      const own = this.read(member);
      if (own !== undefined) define(value, nameIn(member), own);
    }
    for (const { keyField, part: row } of part.rows ?? []) {
      const name = this.values[keyField!] ?? "";
      const own = this.read(row);
      const isTaken = Object.hasOwn(value, name) ||
        part.members.some((member) => nameIn(member) === name);
      if (isTaken) this.mistakes[keyField!] = "There is another property with this name";
      else if (own !== undefined) define(value, name, own);
    }
    return this.#check(part.field, value, countMistake(part, Object.keys(value).length));
  }

  #check<T>(field: string, value: T, mistake: string | null): T {
    if (mistake) this.mistakes[field] ??= mistake;
    return value;
  }

  /** Whether a person filled in something of it. */
  #isTouched(part: FormPart): boolean {
    if (part.isNullable && this.values[`${part.field}#null`] === "true") return true;
    switch (part.kind) {
      case "object":
        return (part.rows?.length ?? 0) > 0 ||
          part.members.some((member) => this.#isTouched(member));
      case "list":
        return part.rows.length > 0;
      case "set":
        return part.choices.some((_, index) => this.values[`${part.field}.${index}`] === "true");
      case "alternatives":
        return this.#isTouched(part.part);
      case "constant":
        return !part.required && this.values[part.field] === "true";
      case "boolean":
        // A needed one is a checkbox, which has no third state.
        return part.required && !part.isNullable
          ? this.values[part.field] === "true" && part.initial !== "true"
          : this.#isTyped(part);
      default:
        return this.#isTyped(part);
    }
  }

  /** A default that nobody changed is no sign that its object is wanted. */
  #isTyped({ field, initial }: FormPart): boolean {
    return Boolean(this.values[field]) && this.values[field] !== initial;
  }
}

/** The property's own name: the last step of its field. */
function nameIn({ field }: Pick<FormPart, "field">): string {
  return decodeURIComponent(field.slice(field.lastIndexOf(".") + 1));
}

const FORMATS: Record<string, { holds: (text: string) => boolean; as: string }> = {
  email: { holds: (text) => /^[^\s@]+@[^\s@]+$/.test(text), as: "an email address" },
  uri: { holds: (text) => URL.canParse(text), as: "an address such as https://example.com/" },
  date: { holds: isDate, as: "a date such as 2026-01-31" },
  "date-time": {
    holds: (text) =>
      /^\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(\.\d+)?([Zz]|[+-]\d\d:\d\d)$/.test(text) &&
      isDate(text.slice(0, 10)) && !Number.isNaN(Date.parse(text)),
    as: "a time such as 2026-01-31T12:00:00Z",
  },
  uuid: {
    holds: (text) => /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i.test(text),
    as: "a UUID",
  },
};

function isChecked(format: string | undefined): boolean {
  return format !== undefined && Object.hasOwn(FORMATS, format);
}

function isDate(text: string): boolean {
  const date = new Date(`${text}T00:00:00Z`);
  return /^\d{4}-\d\d-\d\d$/.test(text) && !Number.isNaN(date.getTime()) &&
    date.toISOString().startsWith(text);
}

function textMistake(part: Extract<FormPart, { kind: "text" }>, text: string): string | null {
  const { label, minLength = 0, maxLength = Infinity, format } = part;
  const length = [...text].length;
  if (length < minLength) return `${label} must have at least ${minLength} characters`;
  if (length > maxLength) return `${label} must have at most ${maxLength} characters`;
  if (isChecked(format) && !FORMATS[format!].holds(text)) {
    return `${label} must be ${FORMATS[format!].as}`;
  }
  return null;
}

function numberMistake(part: Extract<FormPart, { kind: "number" }>, value: number): string | null {
  const { label, isInteger, min, max, above, below, multipleOf } = part;
  if (isInteger && !Number.isInteger(value)) return `${label} must be a whole number`;
  if (min !== undefined && value < min) return `${label} must be at least ${min}`;
  if (max !== undefined && value > max) return `${label} must be at most ${max}`;
  if (above !== undefined && value <= above) return `${label} must be above ${above}`;
  if (below !== undefined && value >= below) return `${label} must be below ${below}`;
  if (multipleOf !== undefined && multipleOf > 0) {
    const times = value / multipleOf;
    if (
      Math.abs(times - Math.round(times)) > Math.max(1e-9, 4 * Number.EPSILON * Math.abs(times))
    ) {
      return `${label} must be a multiple of ${multipleOf}`;
    }
  }
  return null;
}

function countMistake({ min = 0, max = Infinity, label }: {
  min?: number;
  max?: number;
  label: string;
}, count: number): string | null {
  if (count < min) return `${label} must have at least ${min}`;
  return count > max ? `${label} must have at most ${max}` : null;
}

function base64Mistake(text: string): string | null {
  const bare = text.replace(/\s/g, "");
  return /^[A-Za-z0-9+/]*={0,2}$/.test(bare) && bare.length % 4 === 0
    ? null
    : "This is not base64: choose a file instead";
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

function rawArguments(text: string): Record<string, unknown> {
  let mistake = 'Write a JSON object, such as {"path": "/work"}';
  try {
    const value = parseJson(text);
    if (isObject(value) && !isRawNumber(value)) return value;
  } catch (error) {
    mistake = `This is not JSON. ${(error as Error).message}`;
  }
  throw new Invalid(mistake, { raw: mistake });
}

function same(one: unknown, other: unknown): boolean {
  return sortedText(one) === sortedText(other);
}

/** JSON with the names in one order. */
function sortedText(value: unknown): string | undefined {
  return JSON.stringify(
    value,
    (_, one) =>
      isObject(one) && !isRawNumber(one)
        ? Object.fromEntries(Object.entries(one).toSorted(([a], [b]) => a < b ? -1 : 1))
        : one,
  );
}
