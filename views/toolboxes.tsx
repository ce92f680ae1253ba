import type { Toolbox } from "../models/toolboxes.ts";
import { ClocksNotice } from "./clock.tsx";
import { Form } from "./form.tsx";
import { count, Empty, Field, Status } from "./parts.tsx";
import { useUrl } from "./url.ts";

export interface ToolboxesProps {
  toolboxes: Toolbox[];
  /** The asker is an owner or admin. */
  mayChange: boolean;
  /** What was typed into the form, when it did not hold. */
  name?: string;
  labels?: string;
  mistakes?: Record<string, string>;
}

export function Toolboxes(props: ToolboxesProps) {
  const { toolboxes, mayChange, mistakes = {} } = props;
  const url = useUrl();
  return (
    <>
      <div hx-sse:connect={url("/toolboxes/live")} hx-swap="none"></div>
      <h1>Toolboxes</h1>
      <p class="lead">Docker hosts that run your servers, each through its own daemon, the DTMA.</p>
      <ToolboxList toolboxes={toolboxes} />
      <section class="card" aria-labelledby="new-toolbox">
        <h2 id="new-toolbox">Add a toolbox</h2>
        {mayChange
          ? (
            <>
              <p>
                You get a command for a machine with Docker. It needs no open port: its DTMA keeps a
                link to Mooring.
              </p>
              <Form action={url("/toolboxes")}>
                <Field
                  name="name"
                  label="Name"
                  required
                  value={props.name}
                  mistake={mistakes.name}
                  placeholder="Server room"
                />
                <Field
                  name="labels"
                  label="Labels"
                  rows={2}
                  value={props.labels}
                  mistake={mistakes.labels}
                  placeholder="site=office"
                  help="One key=value a line, or none. A deploy can ask for a toolbox with a label."
                />
                <button>Add</button>
              </Form>
            </>
          )
          : <p class="help">Owners and admins of the workspace add toolboxes: ask one of them.</p>}
      </section>
    </>
  );
}

/** The part that follows changes live. */
export function ToolboxList({ toolboxes }: { toolboxes: Toolbox[] }) {
  const url = useUrl();
  return (
    <div id="toolboxes">
      <ClocksNotice toolboxes={toolboxes} />
      {toolboxes.length === 0
        ? (
          <Empty title="No toolbox">
            <p>Start Mooring on a machine with Docker: it brings its own.</p>
          </Empty>
        )
        : (
          <ul class="cards">
            {toolboxes.map((box) => (
              <li class="card">
                <h2>
                  <a href={url(`/toolboxes/${box.id}`)}>{box.name}</a>
                </h2>
                <p>
                  <ToolboxStatus box={box} />
                </p>
                <p class="help">{count(box.servers, "server")}</p>
                <Labels labels={box.labels} />
              </li>
            ))}
          </ul>
        )}
    </div>
  );
}

export function Labels({ labels }: { labels: Record<string, string> }) {
  const pairs = Object.entries(labels);
  if (pairs.length === 0) return null;
  return (
    <p class="badges">
      {pairs.map(([key, value]) => <span class="badge">{key}={value}</span>)}
    </p>
  );
}

export function ToolboxStatus({ box }: { box: Toolbox }) {
  if (box.revokedAt) return <Status of="revoked" />;
  if (!box.facts) return <Status of="waiting" />;
  if (box.refusal) {
    return (
      <span class="status failed">
        <span aria-hidden="true">▲</span> Another version
      </span>
    );
  }
  if (!box.isOnline) return <Status of="toolbox_unreachable" />;
  if (box.facts.engine.state !== "ready") {
    return (
      <span class="status failed">
        <span aria-hidden="true">▲</span> No Docker Engine
      </span>
    );
  }
  return <Status of={box.drainedAt ? "drained" : "ready"} />;
}
