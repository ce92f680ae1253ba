import type { DtmaCommands } from "../models/dtma_command.ts";
import type { Event } from "../models/events.ts";
import type { Server } from "../models/servers.ts";
import type { Toolbox } from "../models/toolboxes.ts";
import { ClockNotice, clockWords } from "./clock.tsx";
import { Form } from "./form.tsx";
import { RuntimeFacts } from "./isolation.tsx";
import { bytes, Confirm, Copy, count, duration, Field, Status, Time } from "./parts.tsx";
import { Enrolment } from "./toolbox_enrolment.tsx";
import { Labels, ToolboxStatus } from "./toolboxes.tsx";
import { useUrl } from "./url.ts";

export interface ToolboxProps {
  box: Toolbox;
  servers: Server[];
  events: Event[];
  /** The asker is an owner or admin. */
  mayChange: boolean;
  /** Made just now: the one time they are shown. */
  commands?: DtmaCommands | null;
  /** What was typed into a form that did not hold, and what is wrong with it. */
  again?: { values: Record<string, string>; mistakes: Record<string, string> };
}

export function ToolboxPage(props: ToolboxProps) {
  const { box, mayChange, commands = null } = props;
  const url = useUrl();
  return (
    <>
      <p class="crumbs">
        <a href={url("/toolboxes")}>Toolboxes</a> / {box.name}
      </p>
      <div
        hx-sse:connect={url(`/toolboxes/${box.id}/live${commands ? "?enrolling" : ""}`)}
        hx-swap="none"
      >
      </div>
      <div class="head">
        <h1>{box.name}</h1>
        {mayChange && <Acts {...props} />}
      </div>
      <Enrolment box={box} mayChange={mayChange} commands={commands} />
      <ToolboxBody box={box} />
      <ToolboxServers box={box} servers={props.servers} />
      {mayChange && <Settings {...props} />}
      <ToolboxEvents events={props.events} />
    </>
  );
}

function Acts({ box, servers, again }: ToolboxProps) {
  const url = useUrl();
  const path = `/toolboxes/${box.id}`;
  if (box.revokedAt) {
    const mistake = again?.mistakes.confirmation;
    return (
      <div class="acts">
        <Confirm
          label="Remove"
          title={`Remove ${box.name} and its ${count(servers.length, "server")}?`}
          action={url(`${path}/remove`)}
          isOpen={mistake !== undefined}
        >
          <p>
            {servers.length > 0 && (
              <>
                Mooring forgets {servers.map(({ name }) => name).join(", ")}{" "}
                with their settings and secrets.{" "}
              </>
            )}
            Nothing is removed on the machine itself: what still runs there runs on until you stop
            it. Calls and events stay in the log.
          </p>
          <Field
            name="confirmation"
            label={`Type ${box.name} to confirm`}
            required
            value={again?.values.confirmation}
            mistake={mistake}
          />
        </Confirm>
      </div>
    );
  }
  return (
    <div class="acts">
      <Form action={url(`${path}/${box.drainedAt ? "undrain" : "drain"}`)}>
        <button class="quiet">{box.drainedAt ? "Undrain" : "Drain"}</button>
      </Form>
      {!box.isLocal && (
        <Confirm label="Revoke" title={`Revoke ${box.name}?`} action={url(`${path}/revoke`)}>
          <p>
            Its key is refused from now on, for good. Its containers run on, but agents cannot call
            them any more: {servers.length > 0
              ? `its ${count(servers.length, "server")} will show as unreachable.`
              : "it has no servers now."} To use the machine again, add it as a new toolbox.
          </p>
        </Confirm>
      )}
    </div>
  );
}

function Settings({ box, again }: ToolboxProps) {
  const url = useUrl();
  const { values = {}, mistakes = {} } = again ?? {};
  const labels = Object.entries(box.labels).map(([key, value]) => `${key}=${value}`);
  return (
    <section class="card settings" aria-labelledby="box-settings">
      <h2 id="box-settings">Settings</h2>
      <Form action={url(`/toolboxes/${box.id}/name`)} class="inline">
        <Field
          name="name"
          label="Name"
          required
          value={values.name ?? box.name}
          mistake={mistakes.name}
        />
        <button>Rename</button>
      </Form>
      <Form action={url(`/toolboxes/${box.id}/labels`)}>
        <Field
          name="labels"
          label="Labels"
          rows={4}
          value={values.labels ?? labels.join("\n")}
          mistake={mistakes.labels}
          placeholder="site=office"
          help="One key=value a line. They tell toolboxes apart, and a deploy can ask for one."
        />
        <button>Save labels</button>
      </Form>
      {box.isEnrolled && !box.revokedAt && (
        <Form action={url(`/toolboxes/${box.id}/key`)}>
          <p class="help">
            A new key takes the old one's place without a pause. If somebody else may have the key,
            revoke the toolbox instead.
          </p>
          <button class="quiet">Change its key</button>
        </Form>
      )}
      {box.isEnrolled && !box.isLocal && !box.revokedAt && (
        <details>
          <summary>Enrol anew</summary>
          <Form action={url(`/toolboxes/${box.id}/token`)}>
            <p>
              For when its data directory is lost. You get a new command; once it is run, the key
              that the toolbox has now stops working.
            </p>
            <button>Make a new command</button>
          </Form>
        </details>
      )}
    </section>
  );
}

/** What is known of the host; follows changes live. */
export function ToolboxBody({ box }: { box: Toolbox }) {
  const facts = box.facts, engine = facts?.engine;
  return (
    <div id="toolbox">
      <p class="verdict">
        <ToolboxStatus box={box} />
      </p>
      <Labels labels={box.labels} />
      {box.drainedAt && !box.revokedAt && (
        <p class="notice">No new server is placed here; those that are here run on.</p>
      )}
      {box.revokedAt && (
        <p class="notice bad">
          Revoked{" "}
          <Time at={box.revokedAt} />. Its key is refused; what it ran may still run there, out of
          reach. Remove it to be rid of its servers in Mooring.
        </p>
      )}
      {box.lastSeenAt && !box.isOnline && !box.revokedAt && (
        <div class="notice bad">
          <p>
            <strong>Silent.</strong> It was last heard of{" "}
            <Time at={box.lastSeenAt} relative />. Its containers run on, if its machine does, but
            nothing is known of them and calls do not reach them. What stands below is of that time.
          </p>
          <p>What to do: check that its machine and its DTMA run, and that it reaches Mooring.</p>
        </div>
      )}
      {engine?.state === "absent" && (
        <div class="notice bad">
          <p>
            <strong>No Docker Engine answers</strong>. {engine.reason}
            {engine.since && (
              <>
                . First noticed <Time at={engine.since} relative />
              </>
            )}
          </p>
          <p>What to do: {engine.advice}</p>
        </div>
      )}
      {box.refusal && !box.revokedAt && (
        <div class="notice bad">
          <p>
            <strong>Mooring and this toolbox cannot speak with each other.</strong> {box.refusal}.
          </p>
          <p>What it ran runs on, but agents cannot call it until then.</p>
        </div>
      )}
      <DtmaUpgrade box={box} />
      <ClockNotice box={box} />
      {engine?.state === "ready" &&
        engine.warnings?.map((warning) => <p class="notice">{warning}.</p>)}
      {!facts && box.isLocal && (
        <p class="notice">
          The DTMA starts with Mooring and reports here within seconds. If it does not, the console
          says why.
        </p>
      )}
      <section class="card" aria-labelledby="host">
        <h2 id="host">Host</h2>
        <dl class="facts">
          <dt>Last heard of</dt>
          <dd>{box.lastSeenAt ? <Time at={box.lastSeenAt} relative /> : "never"}</dd>
          {facts && (
            <>
              <dt>DTMA</dt>
              <dd>{facts.dtmaVersion}</dd>
              <dt>Reach</dt>
              <dd>
                {facts.reach === "tunnel"
                  ? "It keeps a link to Mooring"
                  : <>Mooring calls it at {facts.address}</>}
              </dd>
              {facts.roundTripMs != null && (
                <>
                  <dt>Round trip</dt>
                  <dd>{duration(facts.roundTripMs)}</dd>
                </>
              )}
              {facts.clockOffsetMs != null && (
                <>
                  <dt>Clock</dt>
                  <dd>{clockWords(facts.clockOffsetMs)}</dd>
                </>
              )}
            </>
          )}
          {engine?.state === "ready" && (
            <>
              <dt>{engine.product ?? "Docker Engine"}</dt>
              <dd>{engine.version} (API {engine.apiVersion})</dd>
              <dt>System</dt>
              <dd>{engine.os}, {engine.architecture}</dd>
              <dt>Processors</dt>
              <dd>{engine.cpus}</dd>
              <dt>Memory</dt>
              <dd>{bytes(engine.memoryBytes)}</dd>
              <RuntimeFacts engine={engine} />
              {facts?.scanner !== undefined && (
                <>
                  <dt>Scanner of images</dt>
                  <dd>{facts.scanner ?? "None: install trivy or grype there"}</dd>
                </>
              )}
            </>
          )}
          {box.rotationAskedAt && (
            <>
              <dt>Key</dt>
              <dd>A new one was asked for; the toolbox makes it when it is heard of next</dd>
            </>
          )}
          <dt>Memory promised</dt>
          <dd>
            {bytes(box.promisedMiB * 1024 ** 2)}
            {engine?.state === "ready" && (
              <>
                {" of "}
                {bytes(engine.memoryBytes)}
                {box.promisedMiB * 1024 ** 2 > engine.memoryBytes && (
                  <>
                    {" "}
                    <strong>More than there is</strong>: servers may be killed when all use theirs
                  </>
                )}
              </>
            )}
          </dd>
        </dl>
      </section>
    </div>
  );
}

/** How its DTMA is upgraded, when it is older than this Mooring's; and how the last upgrade failed. */
function DtmaUpgrade({ box }: { box: Toolbox }) {
  const { rolledBack, dtmaVersion } = box.facts ?? {};
  if (box.revokedAt) return null;
  return (
    <>
      {rolledBack && (
        <p class="notice bad">
          <strong>The upgrade to DTMA {rolledBack.version} was rolled back</strong>{" "}
          <Time at={new Date(rolledBack.at)} relative />. {rolledBack.reason}. {dtmaVersion}{" "}
          runs again. The log on the toolbox says more.
        </p>
      )}
      {box.newerDtma && (
        <div class="notice">
          <p>
            <strong>Its DTMA is {dtmaVersion}; this Mooring brings {box.newerDtma}.</strong>{" "}
            Mooring never sends a toolbox programs, so the upgrade begins there. Servers run on; a
            version that does not take over is rolled back by itself.
          </p>
          <p>
            Run <code>deno task dtma:bundle</code> in a checkout of this Mooring, bring{" "}
            <code>dist/mooring-dtma.js</code> to the toolbox, and there:
          </p>
          <Copy id="upgrade" text="sudo mooring-dtma upgrade mooring-dtma.js" label="the command" />
          <p class="help">
            In Docker the container is started anew from the newer image:{" "}
            <code>docker compose up --build --detach</code>. A DTMA that runs in a checkout is
            stopped, and started in the newer one.
          </p>
        </div>
      )}
    </>
  );
}

/** Its servers; follows changes live. */
export function ToolboxServers({ box, servers }: { box: Toolbox; servers: Server[] }) {
  const url = useUrl();
  return (
    <section class="card" id="box-servers" aria-labelledby="box-servers-title">
      <h2 id="box-servers-title">Servers</h2>
      {servers.length === 0
        ? (
          <p class="help">
            None yet.{" "}
            {!box.revokedAt && !box.drainedAt && <a href={url("/marketplace")}>Deploy one</a>}
          </p>
        )
        : (
          <>
            <p class="help">{count(servers.length, "server")}</p>
            <ul class="rows">
              {servers.map((server) => (
                <li>
                  <a href={url(`/servers/${server.id}`)}>{server.name}</a>
                  <Status of={server.status} />
                </li>
              ))}
            </ul>
          </>
        )}
    </section>
  );
}

/** What happened to it; follows changes live. */
export function ToolboxEvents({ events }: { events: Event[] }) {
  return (
    <section class="card" id="box-events" aria-labelledby="box-events-title">
      <h2 id="box-events-title">Events</h2>
      {events.length === 0 ? <p class="help">Nothing happened yet.</p> : (
        <ol class="events">
          {events.map((event) => (
            <li class={event.level}>
              <Time at={event.at} relative />
              <span>
                {event.level !== "info" && (
                  <strong>{event.level === "error" ? "Error" : "Warning"}:</strong>
                )} {event.message} {event.actorName && <small>by {event.actorName}</small>}
              </span>
            </li>
          ))}
        </ol>
      )}
    </section>
  );
}
