import type { Layer } from "../dtma/protocol.ts";
import type { Authorization } from "../models/authorizations.ts";
import type { AskedInput } from "../models/catalog_entries.ts";
import type { Event } from "../models/events.ts";
import type { CallFigures } from "../models/calls.ts";
import type { EgressDenial } from "../models/egress_denials.ts";
import type { Sample } from "../models/samples.ts";
import type { Scans } from "../models/scans.ts";
import type { Generation, Server } from "../models/servers.ts";
import type { Definition } from "../models/definitions.ts";
import type { Tool } from "../models/tools.ts";
import { ServerAccount } from "./authorization.tsx";
import { DefinitionList } from "./definitions.tsx";
import { InputFields } from "./deploy_form.tsx";
import { IsolationFacts, TierField } from "./isolation.tsx";
import { isElsewhere, PackageFacts } from "./package.tsx";
import { Confirm, Empty, Field, Mistake, Status, Time } from "./parts.tsx";
import { Generations } from "./server_generations.tsx";
import { ServerNetwork } from "./server_network.tsx";
import { ServerResources } from "./server_resources.tsx";
import { ServerVulnerabilities } from "./server_vulnerabilities.tsx";
import { ToolList } from "./tools.tsx";
import { TransportFacts, TransportFields } from "./transport.tsx";
import { useUrl } from "./url.ts";
import { visibleText } from "./visible_text.ts";

export interface ServerProps {
  server: Server;
  tools: Tool[];
  definitions: Definition[];
  events: Event[];
  asked: AskedInput[];
  generations: Generation[];
  denials: EgressDenial[];
  samples: Sample[];
  figures: CallFigures;
  scans: Scans;
  authorization: Authorization | null;
  /** Of the configuration form, when it did not hold. */
  values?: Record<string, string>;
  mistakes?: Record<string, string>;
  mistake?: string;
}

/** A server's page. Every part with an id follows changes live (routes/live.tsx). */
export function ServerPage(props: ServerProps) {
  const { server } = props;
  const url = useUrl();
  return (
    <>
      <p class="crumbs">
        <a href={url("/servers")}>Servers</a> / {server.name}
      </p>
      <div hx-sse:connect={url(`/servers/${server.id}/live`)} hx-swap="none"></div>
      <ServerHead server={server} />
      <ServerLayers server={server} />
      <div class="columns wide-left">
        <div>
          <ToolList server={server} tools={props.tools} />
          <DefinitionList serverId={server.id} definitions={props.definitions} />
        </div>
        <div>
          <ServerAccount server={server} authorization={props.authorization} />
          <ServerLog server={server} />
          <ServerEvents events={props.events} />
          <Configuration {...props} />
          <ServerNetwork server={server} denials={props.denials} />
          <ServerResources server={server} samples={props.samples} figures={props.figures} />
          <ServerVulnerabilities server={server} scans={props.scans} />
          <Generations server={server} generations={props.generations} />
        </div>
      </div>
    </>
  );
}

export function ServerHead({ server }: { server: Server }) {
  const url = useUrl();
  const path = url(`/servers/${server.id}`);
  const isGoing = server.removedAt !== null;
  return (
    <div id="server-head">
      <div class="head">
        <h1>{server.name}</h1>
        <div class="acts">
          {!isGoing && server.running && server.status !== "failed" && (
            <form method="post" action={`${path}/stop`}>
              <button class="quiet">Stop</button>
            </form>
          )}
          {!isGoing && (!server.running || server.status === "failed") && (
            <form method="post" action={`${path}/run`}>
              <button>{server.running ? "Try again" : "Start"}</button>
            </form>
          )}
          {!isGoing && server.running && server.status !== "failed" && (
            <form method="post" action={`${path}/restart`}>
              <button class="quiet">Restart</button>
            </form>
          )}
          {!isGoing && (
            <Confirm label="Remove" title={`Remove ${server.name}?`} action={`${path}/remove`}>
              <p>
                Its container, its network, its image (if no other server uses it), its secrets, its
                approvals and its connections to agents go. Its calls and events stay in the log.
              </p>
              {server.config.entry.volumes.length > 0 && (
                <Field
                  name="deleteVolumes"
                  label="Delete the data that it keeps, too"
                  type="checkbox"
                  help="Otherwise its volumes stay on the toolbox."
                />
              )}
            </Confirm>
          )}
        </div>
      </div>
      <p class="verdict">
        <Status of={server.status} /> <span>{visibleText(server.statusDetail)}</span>
      </p>
    </div>
  );
}

/** In the order in which they come up. */
const LAYER_NAMES: [Layer | "host", string][] = [
  ["host", "Host"],
  ["image", "Image"],
  ["container", "Container"],
  ["handshake", "Handshake"],
  ["tools", "Tools"],
];

/** The host and the four layers on it in the order they come up, each with its state in words. */
export function ServerLayers({ server }: { server: Server }) {
  return (
    <ol id="layers" class="layers" aria-label="Layers">
      {LAYER_NAMES.map(([key, name]) => {
        const layer = key === "host" ? server.host : server.layers[key];
        return (
          <li class={layer.state} data-layer={key}>
            <div>
              <strong>{name}</strong>
              <Status of={layer.state} />
            </div>
            <p>{visibleText(layer.detail)}</p>
            {layer.nextStep && <p class="next">{visibleText(layer.nextStep)}</p>}
            {layer.state === "working" && (
              <progress aria-label={`${name} progress`} value={layer.progress} max={1}>
              </progress>
            )}
            {/* While it answers, the time that it was heard of last is no news. */}
            {!(key === "host" && layer.state === "ready") && (
              <small>
                since <Time at={layer.since} relative />
              </small>
            )}
          </li>
        );
      })}
    </ol>
  );
}

export function ServerLog({ server }: { server: Server }) {
  const { entry, options } = server.config;
  const isOnStdio = (options.transport ?? entry.transport).type === "stdio";
  const url = useUrl();
  return (
    <section class="card" id="log" aria-labelledby="log-title">
      <h2 id="log-title">Log</h2>
      {server.logTail.length === 0
        ? (
          <p class="help">
            Nothing was written yet: neither by the build nor by the server to its standard{" "}
            {isOnStdio ? "error" : "output or error"}.
          </p>
        )
        : (
          <pre
            class="log"
            tabindex={0}
            data-follow
          ><code>{visibleText(server.logTail.join("\n"))}</code></pre>
        )}
      <p>
        <a href={url(`/servers/${server.id}/log`)}>Whole log, with search</a>
      </p>
    </section>
  );
}

export function ServerEvents({ events }: { events: Event[] }) {
  return (
    <section class="card" id="events" aria-labelledby="events-title">
      <h2 id="events-title">Events</h2>
      <ol class="events">
        {events.map((event) => (
          <li class={event.level}>
            <Time at={event.at} relative />
            <span>
              {event.level !== "info" && (
                <strong>{event.level === "error" ? "Error" : "Warning"}:</strong>
              )} {visibleText(event.message)}{" "}
              {event.actorName && <small>by {event.actorName}</small>}
            </span>
          </li>
        ))}
      </ol>
    </section>
  );
}

/** The configuration: a change makes the next generation. */
export function Configuration(props: ServerProps) {
  const { server, asked } = props;
  const url = useUrl();
  return (
    <section class="card" id="configuration" aria-labelledby="configuration-title">
      <h2 id="configuration-title">Configuration</h2>
      <form method="post" action={url(`/servers/${server.id}/configuration`)}>
        <Mistake>{props.mistake}</Mistake>
        <input type="hidden" name="baseGeneration" value={String(server.generation)} />
        <InputFields
          asked={asked}
          values={props.values ?? server.config.values}
          mistakes={props.mistakes ?? {}}
          keptSecrets={Object.keys(server.config.secrets)}
        />
        <OptionFields {...props} />
        <button>Save and redeploy</button>
      </form>
      <ServerFacts server={server} />
    </section>
  );
}

/** How it runs, apart from what its entry asks. */
function OptionFields({ server, values, mistakes = {} }: ServerProps) {
  const { entry, options } = server.config;
  const idle = options.idleStopS === null ? "" : String(options.idleStopS / 60);
  const instances = values?.["option.instances"] ?? options.instances ?? entry.instances;
  const isOpen = Object.keys(mistakes).some((field) => field.startsWith("option."));
  return (
    <details class="more" open={isOpen}>
      <summary>How it runs</summary>
      <Field
        name="option.memoryMiB"
        label="Memory, in MiB"
        type="number"
        value={values?.["option.memoryMiB"] ?? String(options.memoryMiB ?? entry.memoryMiB)}
        mistake={mistakes["option.memoryMiB"]}
        help={`Its entry asks for ${entry.memoryMiB}. A server that uses more is ended and started anew.`}
      />
      <div class="field">
        <label for="field-option-instances">Instances</label>
        <select id="field-option-instances" name="option.instances">
          <option value="shared" selected={instances === "shared"}>One for all agents</option>
          <option value="agent" selected={instances === "agent"}>One for each agent</option>
          <option value="session" selected={instances === "session"}>
            One for each client's session
          </option>
        </select>
        <p class="help">
          An instance of its own keeps what one agent tells a server from the others, and lets the
          server ask its agent something while others call it too.
        </p>
      </div>
      <TierField
        tier={values?.["option.tier"] ?? server.tier}
        entryTier={entry.tier}
        mistake={mistakes["option.tier"]}
      />
      {!isElsewhere(entry.package) && (
        <TransportFields
          transport={options.transport ?? entry.transport}
          values={values}
          mistakes={mistakes}
        />
      )}
      <Field
        name="option.idleStopMinutes"
        label="Sleep after so many minutes without a call"
        type="number"
        value={values?.["option.idleStopMinutes"] ?? idle}
        mistake={mistakes["option.idleStopMinutes"]}
        help="Empty: never. The next call wakes it, and waits for it."
      />
    </details>
  );
}

/** What runs: apart from the form above it, which a live update must not touch. */
export function ServerFacts({ server }: { server: Server }) {
  const { entry, options } = server.config;
  const url = useUrl();
  return (
    <dl class="facts" id="facts">
      <PackageFacts of={entry.package} />
      {entry.package.registry === "openapi" && (
        <>
          <dt>Operations</dt>
          <dd>
            <a href={url(`/servers/${server.id}/api`)}>Choose others, or check its document</a>
          </dd>
        </>
      )}
      {!isElsewhere(entry.package) && <TransportFacts of={options.transport ?? entry.transport} />}
      {server.imageDigest && (
        <>
          <dt>Image</dt>
          <dd>
            <code class="digest">{server.imageDigest}</code>
          </dd>
          <dt>Its parts</dt>
          <dd>
            <a href={url(`/servers/${server.id}/bom`)} download>
              Bill of materials (CycloneDX)
            </a>
          </dd>
        </>
      )}
      {server.containerId && (
        <>
          <dt>Container</dt>
          <dd>
            <code>{server.containerId.slice(0, 12)}</code>
          </dd>
        </>
      )}
      <IsolationFacts server={server} />
      {server.servingGeneration !== null && server.servingGeneration !== server.generation && (
        <>
          <dt>Calls answered by</dt>
          <dd>generation {server.servingGeneration}</dd>
        </>
      )}
      {server.restarts > 0 && (
        <>
          <dt>Restarts</dt>
          <dd>{server.restarts}</dd>
        </>
      )}
    </dl>
  );
}

/** In place of a server's page once its toolbox has removed it. */
export function ServerGone() {
  const url = useUrl();
  return (
    <div id="server-head">
      <Empty title="This server was removed">
        <p>
          Its container, network and secrets are gone.{" "}
          <a href={url("/servers")}>Back to the servers</a>.
        </p>
      </Empty>
    </div>
  );
}
