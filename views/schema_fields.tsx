import type { Child } from "hono/jsx";
import { count, Field, fieldId, Mistake } from "./parts.tsx";
import { useUrl } from "./url.ts";
import { visibleText } from "./visible_text.ts";

/** One part of a form that a JSON Schema is made into. */
export type FormPart =
  & {
    /** The name of its form field, and how those of its own parts begin. */
    field: string;
    label: string;
    help?: string;
    required: boolean;
    /** Required, and so is all that it stands in: the browser may insist on it. */
    insisted: boolean;
    isNullable: boolean;
    initial?: string;
  }
  & (
    | {
      kind: "text";
      type: string;
      minLength?: number;
      maxLength?: number;
      pattern?: string;
      placeholder?: string;
      format?: string;
      isLong: boolean;
    }
    | {
      kind: "number";
      isInteger: boolean;
      min?: number;
      max?: number;
      above?: number;
      below?: number;
      multipleOf?: number;
    }
    | { kind: "boolean" }
    | { kind: "choice"; choices: Choice[] }
    | { kind: "set"; choices: Choice[]; min?: number; max?: number }
    | { kind: "constant"; value: unknown }
    | { kind: "file"; mediaType?: string }
    | { kind: "json" }
    | { kind: "object"; members: FormPart[]; rows: FormRow[] | null; min?: number; max?: number }
    | { kind: "list"; rows: FormRow[]; min?: number; max?: number; isUnique: boolean }
    | { kind: "alternatives"; names: string[]; chosen: number; part: FormPart }
  );

export interface Choice {
  /** As the form sends it. */
  text: string;
  title: string;
  value: unknown;
}

/** One of a list, or one more property of an object, whose name is in `keyField`. */
export interface FormRow {
  id: string;
  keyField?: string;
  part: FormPart;
}

export interface FilledForm {
  values: Record<string, string>;
  mistakes: Record<string, string>;
  /** Where the form is shown again with a row more or less; null where it has no rows. */
  action: string;
  /** What htmx swaps. */
  target: string;
}

/** The fields of a part and of all that it is made of. */
export function SchemaFields({ part, form }: { part: FormPart; form: FilledForm }) {
  if (part.kind === "object") {
    return (
      <>
        <Mistake>{form.mistakes[part.field]}</Mistake>
        {part.members.map((member) => <PartFields part={member} form={form} />)}
        {part.rows && <Rows part={part} rows={part.rows} form={form} noun="property" />}
      </>
    );
  }
  return <PartFields part={part} form={form} />;
}

function PartFields({ part, form }: { part: FormPart; form: FilledForm }) {
  return (
    <>
      {shown(part, form)}
      {part.isNullable && (
        <Field
          name={`${part.field}#null`}
          label={`${visibleText(part.label)} is null`}
          type="checkbox"
          value={form.values[`${part.field}#null`]}
        />
      )}
    </>
  );
}

function shown(part: FormPart, form: FilledForm): Child {
  const { field } = part;
  const value = form.values[field];
  const common = {
    name: field,
    label: visibleText(part.label),
    help: part.help === undefined ? undefined : visibleText(part.help),
    required: part.insisted && !part.isNullable,
    value,
    mistake: mistakeOf(part, form),
  };
  switch (part.kind) {
    case "text":
      return part.isLong || value?.includes("\n")
        ? <Field {...common} help={withRule(common.help, lengthOf(part))} rows={4} />
        : (
          <Field
            {...common}
            help={withRule(common.help, lengthOf(part))}
            type={part.type}
            minlength={part.minLength}
            pattern={part.pattern && `.*(?:${part.pattern}).*`}
            placeholder={part.placeholder}
          />
        );
    case "number":
      return (
        <Field
          {...common}
          help={withRule(common.help, rangeOf(part))}
          type="number"
        />
      );
    case "boolean":
      // Unticked is an answer as well: nothing about it is "needed".
      return part.required && !part.isNullable
        ? <Field {...common} required={false} type="checkbox" />
        : (
          <Choices
            {...common}
            choices={["true", "false"].map((text) => ({ text, title: text }))}
          />
        );
    case "choice":
      return <Choices {...common} choices={part.choices} />;
    case "constant":
      return part.required
        ? (
          <p class="field">
            {common.label} is <code>{visibleText(JSON.stringify(part.value))}</code>
          </p>
        )
        : (
          <Choices
            {...common}
            choices={[{ text: "true", title: visibleText(JSON.stringify(part.value)) }]}
          />
        );
    case "json":
      return <Field {...common} rows={4} placeholder="JSON" />;
    case "file":
      return (
        <fieldset>
          <legend>{common.label}</legend>
          <Field
            name={`${field}#file`}
            label="A file"
            help={part.mediaType && `Of the type ${visibleText(part.mediaType)}`}
            type="file"
          />
          <Field {...common} label="or its bytes as base64" required={false} rows={3} />
        </fieldset>
      );
    case "set":
      return (
        <Group part={part} form={form}>
          {part.choices.map((choice, index) => (
            <Field
              name={`${field}.${index}`}
              label={visibleText(choice.title)}
              type="checkbox"
              value={form.values[`${field}.${index}`]}
            />
          ))}
        </Group>
      );
    case "object":
      return (
        <Group part={part} form={form}>
          {part.members.map((member) => <PartFields part={member} form={form} />)}
          {part.rows && <Rows part={part} rows={part.rows} form={form} noun="property" />}
        </Group>
      );
    case "list":
      return (
        <Group part={part} form={form}>
          <Rows part={part} rows={part.rows} form={form} noun="row" />
        </Group>
      );
    case "alternatives":
      return (
        <Group part={part} form={form}>
          <div class="line">
            <Choices
              name={`${field}#choice`}
              label="Which of these"
              required
              value={String(part.chosen)}
              choices={part.names.map((title, index) => ({
                text: String(index),
                title: visibleText(title),
              }))}
            />
            <Again form={form} act="show" label="Show its fields" />
          </div>
          <SchemaFields part={part.part} form={form} />
        </Group>
      );
  }
}

function withRule(help: string | undefined, rule: string): string | undefined {
  return [help, rule].filter(Boolean).join("\n") || undefined;
}

/** A browser that refuses a text says no more than that it is refused. */
function lengthOf(part: Extract<FormPart, { kind: "text" }>): string {
  return sentence([
    part.minLength !== undefined && part.minLength > 1 &&
    `at least ${count(part.minLength, "character")}`,
    part.maxLength !== undefined && `at most ${count(part.maxLength, "character")}`,
    part.pattern !== undefined && `must match ${visibleText(part.pattern)}`,
  ]);
}

function rangeOf(part: Extract<FormPart, { kind: "number" }>): string {
  return sentence([
    part.isInteger && "A whole number",
    part.min !== undefined && `at least ${part.min}`,
    part.above !== undefined && `above ${part.above}`,
    part.max !== undefined && `at most ${part.max}`,
    part.below !== undefined && `below ${part.below}`,
    part.multipleOf !== undefined && `a multiple of ${part.multipleOf}`,
  ]);
}

function sentence(words: (string | false)[]): string {
  const said = words.filter(Boolean).join(", ");
  return said && said[0].toUpperCase() + said.slice(1);
}

/** It names the part, in a stranger's words. */
function mistakeOf({ field }: FormPart, { mistakes }: FilledForm): string | undefined {
  return mistakes[field] && visibleText(mistakes[field]);
}

function Group(
  { part, form, children }: { part: FormPart; form: FilledForm; children?: Child },
) {
  return (
    <fieldset>
      <legend>
        {visibleText(part.label)} {part.required && <span class="needed">needed</span>}
      </legend>
      {part.help && <p class="help">{visibleText(part.help)}</p>}
      {mistakeOf(part, form) && <p class="mistake" role="alert">{mistakeOf(part, form)}</p>}
      {children}
    </fieldset>
  );
}

function Rows(
  { part, rows, form, noun }: {
    part: FormPart;
    rows: FormRow[];
    form: FilledForm;
    noun: string;
  },
) {
  const label = visibleText(part.label), adding = `add-${fieldId(part.field)}`;
  return (
    <div class="rows-edited">
      <input type="hidden" name={`${part.field}#rows`} value={rows.map(({ id }) => id).join(",")} />
      {rows.map(({ id, keyField, part: row }, index) => (
        <div class="row-edited">
          <div>
            {keyField && (
              <Field
                name={keyField}
                label={`Name of ${noun} ${index + 1}`}
                value={form.values[keyField]}
                mistake={form.mistakes[keyField]}
              />
            )}
            <PartFields part={row} form={form} />
          </div>
          <Again
            form={form}
            act={`remove ${id} ${part.field}`}
            next={adding}
            label="Remove"
            says={`Remove ${noun} ${index + 1} of ${label}`}
          />
        </div>
      ))}
      <Again
        form={form}
        act={`add ${part.field}`}
        id={adding}
        label={`Add a ${noun}`}
        says={`Add a ${noun} to ${label}`}
      />
    </div>
  );
}

/** Shows the form again, changed: in place with htmx, as a page without it. */
function Again(
  { form, act, label, says, id, next }: {
    form: FilledForm;
    act: string;
    label: string;
    says?: string;
    id?: string;
    /** The id of what has the focus next, where the button goes. */
    next?: string;
  },
) {
  const url = useUrl();
  return (
    <button
      class="quiet small"
      name="act"
      value={act}
      id={id}
      data-next={next}
      formnovalidate
      aria-label={says}
      hx-post={url(form.action)}
      hx-target={form.target}
      hx-swap="outerMorph"
      hx-encoding="multipart/form-data"
    >
      {label}
    </button>
  );
}

function Choices(
  props: {
    name: string;
    label: string;
    help?: string;
    mistake?: string;
    value?: string;
    required: boolean;
    choices: Pick<Choice, "text" | "title">[];
  },
) {
  const id = fieldId(props.name);
  const describedBy = [props.mistake && `${id}-mistake`, props.help && `${id}-help`].filter(
    Boolean,
  );
  const isChosen = props.choices.some(({ text }) => text === props.value);
  return (
    <div class="field">
      <label for={id}>
        {props.label} {props.required && <span class="needed">needed</span>}
      </label>
      <select
        id={id}
        name={props.name}
        required={props.required}
        aria-invalid={props.mistake ? "true" : undefined}
        aria-describedby={describedBy.length ? describedBy.join(" ") : undefined}
      >
        {(!props.required || !isChosen) && <option value=""></option>}
        {props.choices.map(({ text, title }) => (
          <option value={text} selected={text === props.value}>{title}</option>
        ))}
      </select>
      {props.mistake && <p class="mistake" id={`${id}-mistake`}>{props.mistake}</p>}
      {props.help && <p class="help" id={`${id}-help`}>{props.help}</p>}
    </div>
  );
}
