import type { Layer } from "../dtma/protocol.ts";
import type { Authorization } from "../models/authorizations.ts";
import type { CallFigures } from "../models/calls.ts";
import type { Event } from "../models/events.ts";
import type { Sample } from "../models/samples.ts";
import type { Scans } from "../models/scans.ts";
import type { Server } from "../models/servers.ts";
import type { Trust } from "../models/trust.ts";
import type { UpdateStatus } from "../models/updates.ts";
import { ServerAccount } from "./authorization.tsx";
import { IsolationFacts } from "./isolation.tsx";
import { isElsewhere, PackageFacts } from "./package.tsx";
import { Status, Time } from "./parts.tsx";
import { ServerEvents } from "./server_events.tsx";
import { ServerLog } from "./server_log.tsx";
import { ServerResources } from "./server_resources.tsx";
import { ServerVulnerabilities } from "./server_vulnerabilities.tsx";
import { TransportFacts } from "./transport.tsx";
import { TrustPanel } from "./trust.tsx";
import { ServerUpdate } from "./update.tsx";
import { useUrl } from "./url.ts";
import { visibleText } from "./visible_text.ts";

export interface ServerOverviewProps {
  server: Server;
  /** The newest. */
  events: Event[];
  samples: Sample[];
  figures: CallFigures;
  scans: Scans;
  authorization: Authorization | null;
  update: UpdateStatus;
  trust: Trust;
  /** Of the update's form, when it did not hold. */
  updateAgain?: {
    values: Record<string, string>;
    mistakes: Record<string, string>;
    mistake: string;
  };
}

/** The first tab: how far it came up, what it says, what it takes and what runs. */
export function ServerOverview(props: ServerOverviewProps) {
  const { server } = props;
  return (
    <>
      <ServerLayers server={server} />
      <ServerUpdate server={server} update={props.update} {...props.updateAgain} />
      <div class="columns">
        <div>
          <ServerAccount server={server} authorization={props.authorization} />
          <ServerLog server={server} />
          <ServerEvents server={server} events={props.events} />
        </div>
        <div>
          <section class="card" aria-labelledby="facts-title">
            <h2 id="facts-title">What runs</h2>
            <ServerFacts server={server} />
          </section>
          <ServerResources server={server} samples={props.samples} figures={props.figures} />
          <ServerTrust server={server} trust={props.trust} />
          <ServerVulnerabilities server={server} scans={props.scans} />
        </div>
      </div>
    </>
  );
}

/** What is known of a server: its bill of materials is there with its image. */
export function ServerTrust({ server, trust }: { server: Server; trust: Trust }) {
  return <TrustPanel trust={trust} bomOf={server.imageDigest ? server.id : undefined} />;
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
                since <Time at={layer.since} />
              </small>
            )}
          </li>
        );
      })}
    </ol>
  );
}

/** What its package, image and container are, and what keeps them apart. */
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
