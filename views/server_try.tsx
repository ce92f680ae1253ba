import type { Server } from "../models/servers.ts";
import type { Tool } from "../models/tools.ts";
import { count, Empty } from "./parts.tsx";
import { tabPath } from "./server.tsx";
import { trialPath } from "./trial_run.tsx";
import { useUrl } from "./url.ts";
import { visibleText } from "./visible_text.ts";

/** The tab: the tools that can be tried, each on a page of its own; follows changes live. */
export function TryTab({ server, tools }: { server: Server; tools: Tool[] }) {
  const url = useUrl();
  const approved = tools.filter(({ state }) => state === "approved");
  const withheld = tools.filter(({ state }) => state === "waiting" || state === "changed").length;
  return (
    <section class="card" id="try" aria-labelledby="try-title">
      <h2 id="try-title">Try a tool</h2>
      {server.status !== "running" && server.status !== "idle" && approved.length > 0 && (
        <p class="notice">The server is not up, so a call would be refused: its status says why.</p>
      )}
      {approved.length === 0
        ? (
          <Empty
            title={withheld > 0 ? "No tool is approved yet" : "There is no tool to try yet"}
          >
            <p>
              {withheld > 0
                ? (
                  <>
                    A tool can be tried once you have{" "}
                    <a href={url(tabPath(server.id, "tools"))}>read and approved it</a>.
                  </>
                )
                : "They are listed once the server has answered the handshake."}
            </p>
          </Empty>
        )
        : (
          <ul class="rows">
            {approved.map((tool) => (
              <li>
                <a href={url(trialPath(server.id, tool.name))}>
                  <code>{visibleText(tool.name)}</code>
                </a>
                <small>{firstLine(tool.definition.description)}</small>
              </li>
            ))}
          </ul>
        )}
      {approved.length > 0 && withheld > 0 && (
        <p class="help">
          {count(withheld, "tool")} {withheld === 1 ? "waits" : "wait"} for you:{" "}
          <a href={url(tabPath(server.id, "tools"))}>read and approve</a> to try{" "}
          {withheld === 1 ? "it" : "them"}.
        </p>
      )}
    </section>
  );
}

function firstLine(description: unknown): string {
  if (typeof description !== "string" || !description.trim()) return "It does not describe itself.";
  const line = description.trim().split("\n")[0];
  return visibleText(line.length > 160 ? `${line.slice(0, 159)}…` : line);
}
