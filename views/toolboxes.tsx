import type { Server } from "../models/servers.ts";
import type { Toolbox } from "../models/toolboxes.ts";
import { bytes, count, Empty, Status, Time } from "./parts.tsx";
import { useUrl } from "./url.ts";

export function Toolboxes({ toolboxes }: { toolboxes: Toolbox[] }) {
  const url = useUrl();
  return (
    <>
      <h1>Toolboxes</h1>
      <p class="lead">Docker hosts that run your servers, each through its own daemon, the DTMA.</p>
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
              </li>
            ))}
          </ul>
        )}
    </>
  );
}

export function ToolboxPage({ box, servers }: { box: Toolbox; servers: Server[] }) {
  const url = useUrl();
  return (
    <>
      <p class="crumbs">
        <a href={url("/toolboxes")}>Toolboxes</a> / {box.name}
      </p>
      <div hx-sse:connect={url(`/toolboxes/${box.id}/live`)} hx-swap="none"></div>
      <h1>{box.name}</h1>
      <ToolboxBody box={box} />
      <section class="card" aria-labelledby="box-servers">
        <h2 id="box-servers">Servers</h2>
        {servers.length === 0
          ? (
            <p class="help">
              None yet. <a href={url("/marketplace")}>Deploy one</a>.
            </p>
          )
          : (
            <ul class="rows">
              {servers.map((server) => (
                <li>
                  <a href={url(`/servers/${server.id}`)}>{server.name}</a>
                  <Status of={server.status} />
                </li>
              ))}
            </ul>
          )}
      </section>
    </>
  );
}

/** The part that follows changes live. */
export function ToolboxBody({ box }: { box: Toolbox }) {
  const engine = box.facts?.engine;
  return (
    <div id="toolbox">
      <p class="verdict">
        <ToolboxStatus box={box} />
      </p>
      {engine?.state === "absent" && (
        <div class="notice bad">
          <p>
            <strong>No Docker Engine answers.</strong> {engine.reason}
          </p>
          <p>What to do: {engine.advice}</p>
        </div>
      )}
      {!box.facts && (
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
          {box.facts && (
            <>
              <dt>DTMA</dt>
              <dd>{box.facts.dtmaVersion}</dd>
            </>
          )}
          {engine?.state === "ready" && (
            <>
              <dt>Docker Engine</dt>
              <dd>{engine.version} (API {engine.apiVersion})</dd>
              <dt>System</dt>
              <dd>{engine.os}, {engine.architecture}</dd>
              <dt>Capacity</dt>
              <dd>{count(engine.cpus, "processor")}, {bytes(engine.memoryBytes)}</dd>
            </>
          )}
        </dl>
      </section>
    </div>
  );
}

function ToolboxStatus({ box }: { box: Toolbox }) {
  if (!box.facts) return <Status of="waiting" />;
  if (!box.isOnline) return <Status of="toolbox_unreachable" />;
  return box.facts.engine.state === "ready" ? <Status of="ready" /> : (
    <span class="status failed">
      <span aria-hidden="true">▲</span> No Docker Engine
    </span>
  );
}
