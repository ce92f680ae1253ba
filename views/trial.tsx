import type { Server } from "../models/servers.ts";
import type { Tool } from "../models/tools.ts";
import { definitionText } from "./difference.tsx";
import { Form } from "./form.tsx";
import { Field, Mistake } from "./parts.tsx";
import { type FormPart, SchemaFields } from "./schema_fields.tsx";
import { ServerTabs } from "./server.tsx";
import { History, type HistoryProps, Run, type RunProps, trialPath } from "./trial_run.tsx";
import { useUrl } from "./url.ts";
import { visibleText } from "./visible_text.ts";

export interface TrialProps {
  server: Server;
  tool: Tool;
  part: FormPart;
  values: Record<string, string>;
  mistakes: Record<string, string>;
  mistake?: string;
  /** What was done, and is worth a word. */
  note?: string;
  run: RunProps | null;
  past: HistoryProps["runs"];
}

/** Try a tool: a form made from its input schema, the run that it began, and those before. */
export function TrialPage(props: TrialProps) {
  const { server, tool } = props;
  const url = useUrl();
  return (
    <>
      <p class="crumbs">
        <a href={url("/servers")}>Servers</a> /{" "}
        <a href={url(`/servers/${server.id}`)}>{server.name}</a> / {props.run
          ? (
            <>
              <a href={url(trialPath(server.id, tool.name))}>{visibleText(tool.name)}</a> / Run
            </>
          )
          : visibleText(tool.name)}
      </p>
      <h1>
        Try <code>{visibleText(tool.name)}</code>
      </h1>
      <ServerTabs server={server} below="try" />
      <p class="lead pre">{visibleText(tool.definition.description ?? "").slice(0, 4000)}</p>
      <div class="columns wide-left">
        <Trial {...props} />
        <div>
          <History
            serverId={server.id}
            tool={tool.name}
            runs={props.past}
            shown={props.run?.run.id}
          />
          <section class="card" aria-labelledby="schema">
            <h2 id="schema">Input schema</h2>
            <pre
              tabindex={0}
              class="schema"
            >{definitionText(tool.definition.inputSchema ?? {})}</pre>
          </section>
        </div>
      </div>
    </>
  );
}

/** The form with its run: what htmx swaps. */
export function Trial(props: TrialProps) {
  const { part, values, mistakes } = props;
  const url = useUrl();
  const action = trialPath(props.server.id, props.tool.name);
  const hasNoFields = part.kind === "object" && part.members.length === 0 && part.rows === null;
  return (
    <div id="trial">
      <section class="card" aria-labelledby="trial-title">
        <h2 id="trial-title">Arguments</h2>
        <Form
          instead="Members of the workspace try tools."
          enctype="multipart/form-data"
          action={url(action)}
          hx-post={url(action)}
          hx-target="#trial"
          hx-swap="outerMorph"
          hx-disable="find button.call"
        >
          <Mistake>{props.mistake}</Mistake>
          {props.note && <p class="notice" role="status">{props.note}</p>}
          {/* Enter in a field presses a form's first button, which must not be one that adds a row. */}
          <button class="hidden" tabindex={-1} aria-hidden="true">Call the tool</button>
          {hasNoFields && <p class="help">This tool takes no arguments.</p>}
          <SchemaFields part={part} form={{ values, mistakes, action, target: "#trial" }} />
          <details open={Boolean(values.raw || props.note)}>
            <summary>Write the arguments as JSON instead</summary>
            <Field
              name="raw"
              label="Arguments as JSON"
              help="While there is text here, it is sent as it is, in place of the fields."
              rows={8}
              value={values.raw}
              mistake={mistakes.raw}
            />
            <p class="acts">
              <Act act="write" label="Write the fields as JSON" action={action} />
              <Act act="fill" label="Fill the fields from the JSON" action={action} />
            </p>
          </details>
          <button class="call">Call the tool</button>
          <p class="help">
            A server may ask you something while it works: it is asked here. It gets no answer of a
            model (sampling) and no list of folders (roots) from this page.
          </p>
        </Form>
      </section>
      {props.run && <Run {...props.run} />}
    </div>
  );
}

function Act({ act, label, action }: { act: string; label: string; action: string }) {
  const url = useUrl();
  return (
    <button
      class="quiet small"
      name="act"
      value={act}
      formnovalidate
      hx-post={url(action)}
      id={`act-${act}`}
      hx-target="#trial"
      // A morph leaves alone what was typed, and these two write over it.
      hx-swap="outerHTML"
      hx-encoding="multipart/form-data"
    >
      {label}
    </button>
  );
}
