import type { Server } from "../models/servers.ts";
import type { Tool } from "../models/tools.ts";
import { duration, Field, Mistake } from "./parts.tsx";
import { definitionText } from "./difference.tsx";
import { useUrl } from "./url.ts";
import { visibleText } from "./visible_text.ts";

export interface TrialField {
  name: string;
  /** The name of the form field. */
  field: string;
  description?: string;
  required: boolean;
  kind: "string" | "number" | "boolean" | "choice" | "json";
  choices?: string[];
  initial?: string;
}

export interface TrialProps {
  server: Server;
  tool: Tool;
  fields: TrialField[];
  values: Record<string, string>;
  mistakes: Record<string, string>;
  mistake?: string;
  outcome?: Outcome;
}

/** What a trial came to, and how long it took. */
export interface Outcome {
  durationMs: number;
  result?: Record<string, unknown>;
  error?: { code: number; message: string };
}

/** Try a tool: a form made from its input schema, and the result. */
export function TrialPage(props: TrialProps) {
  const { server, tool } = props;
  const url = useUrl();
  const path = url(`/servers/${server.id}`);
  return (
    <>
      <p class="crumbs">
        <a href={url("/servers")}>Servers</a> / <a href={path}>{server.name}</a> /{" "}
        {visibleText(tool.name)}
      </p>
      <h1>
        Try <code>{visibleText(tool.name)}</code>
      </h1>
      <p class="lead pre">{visibleText(tool.definition.description ?? "").slice(0, 4000)}</p>
      <div class="columns">
        <Trial {...props} />
        <section class="card" aria-labelledby="schema">
          <h2 id="schema">Input schema</h2>
          <pre tabindex={0}>{definitionText(tool.definition.inputSchema ?? {})}</pre>
        </section>
      </div>
    </>
  );
}

/** The form with its outcome: what htmx swaps. */
export function Trial(props: TrialProps) {
  const url = useUrl();
  const action = url(`/servers/${props.server.id}/tools/${encodeURIComponent(props.tool.name)}`);
  return (
    <section class="card" id="trial" aria-labelledby="trial-title">
      <h2 id="trial-title">Arguments</h2>
      <form
        method="post"
        action={action}
        hx-post={action}
        hx-target="#trial"
        hx-swap="outerMorph"
        hx-disable="find button"
      >
        <Mistake>{props.mistake}</Mistake>
        {props.fields.length === 0 && <p class="help">This tool takes no arguments.</p>}
        {props.fields.map((field) => (
          <Field
            name={field.field}
            label={field.name}
            help={field.description}
            required={field.required && field.kind !== "boolean"}
            type={field.kind === "boolean"
              ? "checkbox"
              : field.kind === "number"
              ? "number"
              : "text"}
            choices={field.choices}
            rows={field.kind === "json" ? 4 : undefined}
            placeholder={field.kind === "json" ? "JSON" : undefined}
            value={props.values[field.field] ?? field.initial}
            mistake={props.mistakes[field.field]}
          />
        ))}
        <details open={Boolean(props.values.raw)}>
          <summary>Write the arguments as JSON instead</summary>
          <Field
            name="raw"
            label="Arguments as JSON"
            rows={6}
            value={props.values.raw}
            mistake={props.mistakes.raw}
          />
        </details>
        <button>Call the tool</button>
      </form>
      <div aria-live="polite">{props.outcome && <OutcomeView outcome={props.outcome} />}</div>
    </section>
  );
}

function OutcomeView({ outcome }: { outcome: Outcome }) {
  const { result, error } = outcome;
  const isError = Boolean(error) || result?.isError === true;
  const content = Array.isArray(result?.content) ? result.content : [];
  return (
    <div class={`outcome ${isError ? "bad" : "good"}`} id="outcome">
      <h3>
        {isError ? "▲ The tool failed" : "✓ The tool answered"}{" "}
        <small>after {duration(outcome.durationMs)}</small>
      </h3>
      {error && (
        <p>
          {visibleText(error.message)} <small>(code {error.code})</small>
        </p>
      )}
      {content.slice(0, 50).map((block) => <Block block={block} />)}
      {result?.structuredContent !== undefined && (
        <details open={content.length === 0}>
          <summary>Structured content</summary>
          <pre tabindex={0}>{definitionText(result.structuredContent)}</pre>
        </details>
      )}
      {result && (
        <details>
          <summary>All of the result</summary>
          <pre tabindex={0}>{definitionText(result)}</pre>
        </details>
      )}
    </div>
  );
}

const IMAGES = ["image/png", "image/jpeg", "image/gif", "image/webp"];

function Block({ block }: { block: Record<string, unknown> }) {
  if (block?.type === "text") {
    return <pre tabindex={0}>{visibleText(String(block.text)).slice(0, 200_000)}</pre>;
  }
  const isImage = block?.type === "image" && IMAGES.includes(String(block.mimeType)) &&
    /^[A-Za-z0-9+/=\s]+$/.test(String(block.data));
  if (isImage) {
    return (
      <img
        class="answer"
        alt="An image from the tool"
        src={`data:${block.mimeType};base64,${block.data}`}
      />
    );
  }
  if (block?.type === "resource_link") {
    return (
      <p>
        Link: <code>{visibleText(String(block.uri))}</code>
      </p>
    );
  }
  return <pre tabindex={0}>{definitionText(block)}</pre>;
}
