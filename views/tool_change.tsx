import type { Connection, ConnectionTool } from "../models/connections.ts";
import { costOf } from "./connection.tsx";
import { definitionText } from "./difference.tsx";
import { Form } from "./form.tsx";
import { Field, fieldId, Mistake, tokens } from "./parts.tsx";
import { useUrl } from "./url.ts";
import { visibleText } from "./visible_text.ts";

export interface ArgumentField {
  name: string;
  /** The name of the form field. */
  field: string;
  description?: string;
  required: boolean;
  kind: "string" | "number" | "boolean" | "choice" | "json";
  choices?: string[];
  initial?: string;
}

export interface ToolChangeProps {
  connection: Connection;
  tool: ConnectionTool;
  fields: ArgumentField[];
  /** Of the form, when it did not hold; else what is saved is shown. */
  values: Record<string, string>;
  mistakes: Record<string, string>;
  mistake?: string;
  isSaved?: boolean;
}

/**
 * How one agent sees one tool, its name, its description and the arguments it has a say in, and how often it
 * may call it.
 */
export function ToolChangePage(props: ToolChangeProps) {
  const { connection, tool } = props;
  const url = useUrl();
  const agent = url(`/agents/${connection.agentId}`);
  return (
    <>
      <p class="crumbs">
        <a href={url("/agents")}>Agents</a> / <a href={agent}>{connection.agentName}</a> /{" "}
        <a href={`${agent}/connections/${connection.serverId}`}>{connection.serverName}</a> /{" "}
        {visibleText(tool.name)}
      </p>
      <h1>
        <code>{visibleText(tool.name)}</code> for {connection.agentName}
      </h1>
      <p class="lead">
        For this agent alone. The server is still called by its own names, and the definition that
        was approved stays as it is.
      </p>
      <ToolChangeForm {...props} />
    </>
  );
}

/** The form beside what comes of it: what htmx swaps. */
export function ToolChangeForm(props: ToolChangeProps) {
  const { connection, tool, fields, values, mistakes } = props;
  const url = useUrl();
  const action = url(
    `/agents/${connection.agentId}/connections/${connection.serverId}/tools/${
      encodeURIComponent(tool.name)
    }`,
  );
  return (
    <div class="columns" id="tool-change">
      <Form
        instead="Members of the workspace change how an agent sees a tool."
        class="card"
        action={action}
        hx-post={action}
        hx-target="#tool-change"
        hx-swap="outerMorph"
        hx-disable="find button"
        aria-labelledby="changes"
      >
        <h2 id="changes">Changes</h2>
        <Mistake>{props.mistake}</Mistake>
        {props.isSaved && <p class="notice good" role="status">Saved.</p>}
        <Field
          name="name"
          label="Name"
          placeholder={visibleText(tool.name)}
          value={values.name ?? tool.change.name}
          mistake={mistakes.name}
          help={`Letters, digits, _ and -. Behind ${connection.serverSlug}__ where the agent has many servers.`}
        />
        <Field
          name="description"
          label="Description"
          rows={5}
          placeholder={visibleText(tool.definition.description ?? "").slice(0, 4000)}
          value={values.description ?? tool.change.description}
          mistake={mistakes.description}
          help="Empty: the server's own."
        />
        <Field
          name="perMinute"
          label="Calls a minute"
          type="number"
          value={values.perMinute ?? tool.change.perMinute?.toString()}
          mistake={mistakes.perMinute}
          help="Up to 100,000, which may come in one burst. Empty: no limit."
        />
        <Field
          name="atOnce"
          label="Calls at once"
          type="number"
          value={values.atOnce ?? tool.change.atOnce?.toString()}
          mistake={mistakes.atOnce}
          help="Up to 512. Beyond a limit the agent is told when to call again. Empty: no limit."
        />
        {fields.map((field) => (
          <ArgumentFields
            field={field}
            mode={values[modeField(field)] ?? modeOf(tool, field)}
            value={values[field.field] ?? valueOf(tool, field)}
            mistake={mistakes[field.field]}
          />
        ))}
        <p class="acts">
          <button name="act" value="save">Save</button>
          {/* A morph leaves alone what was typed, and this takes it back. */}
          <button
            name="act"
            value="reset"
            class="quiet"
            id="reset"
            hx-post={action}
            hx-target="#tool-change"
            hx-swap="outerHTML"
          >
            Take all changes back
          </button>
        </p>
      </Form>
      <section class="card" aria-labelledby="seen">
        <h2 id="seen">What the agent sees</h2>
        <p>{tokens(costOf(connection, tool))}</p>
        <pre tabindex={0}>{definitionText(tool.shown)}</pre>
      </section>
    </div>
  );
}

function ArgumentFields(
  { field, mode, value, mistake }: {
    field: ArgumentField;
    mode: string;
    value?: string;
    mistake?: string;
  },
) {
  const name = modeField(field);
  const id = fieldId(name);
  return (
    <fieldset>
      <legend>
        Argument <code>{visibleText(field.name)}</code>
      </legend>
      <div class="field">
        <label for={id}>Who says it</label>
        <select id={id} name={name}>
          {Object.entries(MODES).map(([key, said]) => (
            <option value={key} selected={key === mode}>{said}</option>
          ))}
        </select>
      </div>
      <Field
        name={field.field}
        label="Value"
        help={field.description && visibleText(field.description)}
        type={field.kind === "boolean" ? "checkbox" : field.kind === "number" ? "number" : "text"}
        choices={field.choices}
        rows={field.kind === "json" ? 3 : undefined}
        placeholder={field.kind === "json" ? "JSON" : undefined}
        value={value}
        mistake={mistake}
      />
    </fieldset>
  );
}

/** Who says an argument. */
export const MODES = {
  caller: "the agent",
  default: "the agent, or else the value below",
  fixed: "always the value below, and the agent does not see it",
};

/** The form field that says who says an argument. */
export function modeField({ name }: ArgumentField): string {
  return `mode.${name}`;
}

function modeOf({ change }: ConnectionTool, { name }: ArgumentField): keyof typeof MODES {
  if (change.fixed && Object.hasOwn(change.fixed, name)) return "fixed";
  return change.defaults && Object.hasOwn(change.defaults, name) ? "default" : "caller";
}

function valueOf({ change }: ConnectionTool, { name, kind }: ArgumentField): string | undefined {
  const held = [change.fixed, change.defaults].find((values) =>
    values && Object.hasOwn(values, name)
  );
  if (!held) return undefined;
  const value = held[name];
  return typeof value === "string" && kind !== "json" ? value : JSON.stringify(value);
}
