import type { Child } from "hono/jsx";
import type { ServerStatus } from "../models/server_status.ts";
import { Form, useMay } from "./form.tsx";
import { useUrl } from "./url.ts";

/** What a status is called, and its sign: colour is never the only difference. */
export const STATUS: Record<string, { name: string; sign: string }> = {
  running: { name: "Running", sign: "●" },
  ready: { name: "Ready", sign: "●" },
  starting: { name: "Starting", sign: "◐" },
  working: { name: "Working", sign: "◐" },
  waiting: { name: "Waiting", sign: "○" },
  idle: { name: "Asleep", sign: "◑" },
  stopped: { name: "Stopped", sign: "■" },
  failed: { name: "Failed", sign: "▲" },
  signed_out: { name: "Sign-in needed", sign: "▲" },
  removing: { name: "Removing", sign: "◌" },
  drained: { name: "Drained", sign: "◌" },
  revoked: { name: "Revoked", sign: "■" },
  toolbox_unreachable: { name: "Toolbox unreachable", sign: "▲" },
  unknown: { name: "Not known", sign: "?" },
};

export function Status({ of }: { of: ServerStatus | string }) {
  const { name, sign } = STATUS[of] ?? { name: of, sign: "○" };
  return (
    <span class={`status ${of}`}>
      <span aria-hidden="true">{sign}</span> {name}
    </span>
  );
}

/** A time, in UTC as sent and in the reader's zone once app.js ran. */
export function Time({ at, relative = false }: { at: Date | string; relative?: boolean }) {
  const date = new Date(at);
  return (
    <time datetime={date.toISOString()} data-relative={relative ? "" : undefined}>
      {date.toISOString().slice(0, 19).replace("T", " ")} UTC
    </time>
  );
}

/** What a list says when it is empty: what to do first. */
export function Empty({ title, children }: { title: string; children?: Child }) {
  return (
    <div class="empty">
      <h2>{title}</h2>
      <div>{children}</div>
    </div>
  );
}

/** A field's id. Names that differ have ids that do, and what an id cannot hold or hides is its number. */
export function fieldId(name: string): string {
  const id = name.replace(
    /[^\p{L}\p{N}_.#%-]/gu,
    (char) => `~${char.codePointAt(0)!.toString(16)}~`,
  );
  return `field-${id}`;
}

/** One form field with its label, help and mistake, tied together for screen readers. */
export function Field(props: {
  name: string;
  /** Where another field of the page has the name too. */
  id?: string;
  label: string;
  help?: Child;
  mistake?: string;
  type?: string;
  value?: string;
  required?: boolean;
  placeholder?: string;
  autocomplete?: string;
  choices?: string[];
  rows?: number;
  minlength?: number;
  pattern?: string;
}) {
  const id = props.id ?? fieldId(props.name);
  const describedBy = [props.mistake && `${id}-mistake`, props.help && `${id}-help`].filter(
    Boolean,
  );
  const common = {
    id,
    name: props.name,
    required: props.required,
    "aria-invalid": props.mistake ? "true" as const : undefined,
    "aria-describedby": describedBy.length ? describedBy.join(" ") : undefined,
  };
  const label = (
    <label for={id}>
      {props.label} {props.required && <span class="needed">needed</span>}
    </label>
  );
  const notes = (
    <>
      {props.mistake && <p class="mistake" id={`${id}-mistake`}>{props.mistake}</p>}
      {props.help && <p class="help" id={`${id}-help`}>{props.help}</p>}
    </>
  );
  if (props.type === "checkbox") {
    return (
      <div class="field check">
        <input type="hidden" name={props.name} value="false" />
        <input
          {...common}
          required={false}
          type="checkbox"
          value="true"
          checked={props.value === "true"}
        />
        {label}
        {notes}
      </div>
    );
  }
  return (
    <div class="field">
      {label}
      {props.choices
        ? (
          <select {...common}>
            {!props.required && <option value=""></option>}
            {props.choices.map((choice) => (
              <option value={choice} selected={choice === props.value}>{choice}</option>
            ))}
          </select>
        )
        : props.rows
        ? (
          <textarea
            {...common}
            rows={props.rows}
            placeholder={props.placeholder}
            spellcheck={false}
          >
            {/* Browsers drop a line break that a text begins with. */}
            {props.value?.startsWith("\n") && "\n"}
            {props.value}
          </textarea>
        )
        : (
          <input
            {...common}
            type={props.type ?? "text"}
            value={props.value}
            placeholder={props.placeholder}
            autocomplete={props.autocomplete ?? "off"}
            minlength={props.minlength}
            pattern={props.pattern}
            step={props.type === "number" ? "any" : undefined}
          />
        )}
      {notes}
    </div>
  );
}

/** A destructive act behind a second step that says what it takes along; works without script. */
export function Confirm(
  { label, says, title, action, isOpen, children }: {
    label: string;
    /** The label for a screen reader, where several of a page read alike. */
    says?: string;
    title: string;
    action: string;
    /** From the start: what was sent did not hold. */
    isOpen?: boolean;
    children?: Child;
  },
) {
  if (!useMay()(action)) return null;
  return (
    <details class="confirm" open={isOpen}>
      <summary class="button quiet" aria-label={says}>{label}</summary>
      <Form action={action}>
        <p>
          <strong>{title}</strong>
        </p>
        <div>{children}</div>
        <button class="danger">{label}</button>
      </Form>
    </details>
  );
}

/** Text to copy, with a button that app.js brings to life. */
export function Copy({ id, text, label }: { id: string; text: string; label: string }) {
  return (
    <div class="copy">
      <pre id={id} tabindex={0}><code>{text}</code></pre>
      <button type="button" class="quiet" data-copy={id} aria-label={`Copy ${label}`}>Copy</button>
    </div>
  );
}

/** A sentence at the head of a form that did not hold. */
export function Mistake({ children }: { children?: Child }) {
  return children ? <p class="notice bad" role="alert">{children}</p> : null;
}

/** Bytes for people, in binary units. */
export function bytes(count: number): string {
  if (count < 1024) return `${count} B`;
  if (count < 1024 ** 2) return `${(count / 1024).toFixed(1)} KiB`;
  if (count < 1024 ** 3) return `${(count / 1024 ** 2).toFixed(1)} MiB`;
  return `${(count / 1024 ** 3).toFixed(1)} GiB`;
}

/** Milliseconds for people. */
export function duration(ms: number): string {
  if (ms < 10) return `${ms.toFixed(1)} ms`;
  return ms < 1000 ? `${Math.round(ms)} ms` : `${(ms / 1000).toFixed(2)} s`;
}

/** "1 tool", "2 tools". */
export function count(n: number, noun: string): string {
  return `${n.toLocaleString("en")} ${noun}${n === 1 ? "" : "s"}`;
}

/** What a model pays for a definition: an estimate, and said to be one. */
export function tokens(n: number): string {
  return `about ${n.toLocaleString("en")} token${n === 1 ? "" : "s"}`;
}

/**
 * A list's search by words and by what stands in it; the results follow as one types. Without script its
 * button sends it.
 *
 * @param at the list's path; its results alone are at `<at>/results`
 */
export function SearchForm(
  { at, text, placeholder, children }: {
    at: string;
    text: string;
    placeholder: string;
    children?: Child;
  },
) {
  const url = useUrl();
  return (
    <form
      method="get"
      action={url(at)}
      role="search"
      class="search"
      hx-get={url(`${at}/results`)}
      hx-target="#results"
      hx-swap="outerHTML"
      hx-trigger="input delay:200ms, change"
    >
      <label for="q" class="hidden">Search</label>
      <input
        id="q"
        type="search"
        name="q"
        value={text}
        maxlength={200}
        placeholder={placeholder}
        autocomplete="off"
      />
      {children}
      <button class="no-script">Search</button>
    </form>
  );
}
