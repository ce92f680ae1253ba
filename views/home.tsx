import type { Agent } from "../models/agents.ts";
import type { Server } from "../models/servers.ts";
import type { Toolbox } from "../models/toolboxes.ts";
import type { Wish } from "../models/wishes.ts";
import { count, Status } from "./parts.tsx";
import { useUrl } from "./url.ts";
import { visibleText } from "./visible_text.ts";

export interface HomeProps {
  servers: Server[];
  agents: Agent[];
  toolboxes: Toolbox[];
  /** Of agents, that wait for a person. */
  wishes: Wish[];
}

const SHOWN_SERVERS = 12;

/** The overview: what needs a person, what runs, and the first steps on a new installation. */
export function Home(props: HomeProps) {
  const url = useUrl();
  return (
    <>
      <h1>Overview</h1>
      <div hx-sse:connect={url("/live")} hx-swap="none"></div>
      <HomeBody {...props} />
    </>
  );
}

/** The part that follows changes live. */
export function HomeBody({ servers, agents, toolboxes, wishes }: HomeProps) {
  const url = useUrl();
  const steps = firstSteps(servers, agents);
  const needs = attention(servers, toolboxes, wishes);
  const running = servers.filter((server) => server.status === "running").length;
  return (
    <div id="overview">
      {steps.some((step) => !step.done) && (
        <section class="card" aria-labelledby="first-steps">
          <h2 id="first-steps">First steps</h2>
          <ol class="steps">
            {steps.map((step) => (
              <li class={step.done ? "done" : undefined}>
                <span aria-hidden="true">{step.done ? "✓" : "○"}</span>
                <span>
                  {step.done ? <s>{step.title}</s> : <a href={url(step.path)}>{step.title}</a>}
                  {step.done && <span class="hidden">done</span>}
                  <small>{step.detail}</small>
                </span>
              </li>
            ))}
          </ol>
        </section>
      )}
      {needs.length > 0 && (
        <section class="card" aria-labelledby="attention">
          <h2 id="attention">Needs you</h2>
          <ul class="rows">
            {needs.map((need) => (
              <li>
                <a href={url(need.path)}>{need.title}</a>
                <small>{visibleText(need.detail)}</small>
              </li>
            ))}
          </ul>
        </section>
      )}
      <dl class="figures">
        <div>
          <dt>Servers running</dt>
          <dd>
            {running} <small>of {servers.length}</small>
          </dd>
        </div>
        <div>
          <dt>Tools approved</dt>
          <dd>{servers.reduce((sum, server) => sum + server.tools.approved, 0)}</dd>
        </div>
        <div>
          <dt>Agents</dt>
          <dd>{agents.length}</dd>
        </div>
        <div>
          <dt>Toolboxes online</dt>
          <dd>
            {toolboxes.filter((box) => box.isOnline).length}{" "}
            <small>of {toolboxes.filter(({ revokedAt }) => !revokedAt).length}</small>
          </dd>
        </div>
      </dl>
      {servers.length > 0 && (
        <section class="card" aria-labelledby="home-servers">
          <h2 id="home-servers">Servers</h2>
          <ul class="rows">
            {servers.slice(0, SHOWN_SERVERS).map((server) => (
              <li>
                <a href={url(`/servers/${server.id}`)}>{server.name}</a>
                <Status of={server.status} />
                <small>{count(server.tools.approved, "approved tool")}</small>
              </li>
            ))}
          </ul>
          {servers.length > SHOWN_SERVERS && (
            <p>
              <a href={url("/servers")}>All {servers.length} servers</a>
            </p>
          )}
        </section>
      )}
    </div>
  );
}

function firstSteps(servers: Server[], agents: Agent[]) {
  const first = servers[0];
  return [
    {
      title: "Deploy a server",
      detail: "Pick one in the marketplace; it runs here in a locked-down container.",
      path: "/marketplace",
      done: servers.length > 0,
    },
    {
      title: "Approve its tools",
      detail: "Agents get only what you approved, as it was when you approved it.",
      path: first ? `/servers/${first.id}/tools` : "/marketplace",
      done: servers.some((server) => server.tools.approved > 0),
    },
    {
      title: "Connect an agent",
      detail: "Make an agent, connect it to the server, copy its configuration.",
      path: agents[0] ? `/agents/${agents[0].id}` : "/agents",
      done: agents.some((agent) => agent.tokens.length > 0 && agent.connections.length > 0),
    },
  ];
}

function attention(servers: Server[], toolboxes: Toolbox[], wishes: Wish[]) {
  const needs: { title: string; detail: string; path: string }[] = wishes.map((wish) => ({
    path: `/requests/${wish.id}`,
    title: visibleText(`${wish.agentName} asks to ${wish.wants}`),
    detail: "It is done when you approve it",
  }));
  for (const box of toolboxes.filter(({ revokedAt }) => !revokedAt)) {
    const path = `/toolboxes/${box.id}`;
    if (box.facts?.engine.state === "absent") {
      const { reason, advice } = box.facts.engine;
      needs.push({
        path,
        title: `${box.name}: no Docker Engine answers`,
        detail: `${reason}. ${advice}`,
      });
    } else if (!box.isOnline && box.lastSeenAt) {
      needs.push({
        path,
        title: `${box.name} is silent`,
        detail: "Its DTMA was not heard of lately",
      });
    }
  }
  for (const server of servers) {
    const path = `/servers/${server.id}`;
    if (server.status === "failed") {
      needs.push({ path, title: `${server.name} failed`, detail: server.statusDetail });
    }
    if (server.status === "signed_out") {
      needs.push({
        path,
        title: `${server.name}: sign-in needed`,
        detail: server.statusDetail,
      });
    }
    if (server.tools.changed > 0) {
      needs.push({
        path: `${path}/tools`,
        title: `${server.name}: ${count(server.tools.changed, "changed tool")}`,
        detail: "Withheld from agents until you have read and approved the new definition",
      });
    }
    if (server.tools.waiting > 0 && server.status === "running") {
      needs.push({
        path: `${path}/tools`,
        title: `${server.name}: ${count(server.tools.waiting, "tool")} to approve`,
        detail: "Agents do not get them before",
      });
    }
  }
  return needs;
}
