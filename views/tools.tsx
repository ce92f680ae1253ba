import type { Server } from "../models/servers.ts";
import type { Tool } from "../models/tools.ts";
import { definitionText, Difference } from "./difference.tsx";
import { count, Empty, tokens } from "./parts.tsx";
import { tokensOf } from "./token_cost.ts";
import { useUrl } from "./url.ts";
import { visibleText } from "./visible_text.ts";

/** What a definition's state is called, and its sign. */
export const STATES = {
  waiting: { name: "Waits for approval", sign: "○" },
  approved: { name: "Approved", sign: "✓" },
  changed: { name: "Changed: withheld", sign: "▲" },
  gone: { name: "No longer listed", sign: "◌" },
};

/** A server's tools, with the form that approves exactly the definitions on the page. */
export function ToolList({ server, tools }: { server: Server; tools: Tool[] }) {
  const url = useUrl();
  const open = tools.filter((tool) => tool.state === "waiting" || tool.state === "changed");
  return (
    <section class="card" id="tools" aria-labelledby="tools-title">
      <h2 id="tools-title">Tools</h2>
      {tools.length === 0
        ? (
          <Empty
            title={server.status === "running"
              ? "The server lists no tools"
              : "No tools are known yet"}
          >
            <p>
              {server.status === "running"
                ? "It may serve only prompts or resources."
                : "They are listed once the server has answered the handshake."}
            </p>
          </Empty>
        )
        : (
          <form method="post" action={url(`/servers/${server.id}/tools`)}>
            {open.length > 0
              ? (
                <div class="notice">
                  <p>
                    {count(open.length, "tool")} {open.length === 1 ? "waits" : "wait"}{" "}
                    for you. Read what they say of themselves: agents will read it too, and follow
                    it.
                  </p>
                  <p class="acts">
                    <button name="act" value="approve-all">
                      {open.length === 1 ? "Approve it" : `Approve all ${open.length}`}
                    </button>
                    <button name="act" value="approve" class="quiet">Approve selected</button>
                  </p>
                </div>
              )
              : (
                <p class="help">
                  All are approved. A tool whose definition changes is withheld until you approve it
                  again.
                </p>
              )}
            {open.map((tool) => (
              <input type="hidden" name="waiting" value={`${tool.hash} ${tool.name}`} />
            ))}
            <ul class="tools">
              {tools.map((tool) => (
                <ToolRow tool={tool} serverId={server.id} canTry={server.status === "running"} />
              ))}
            </ul>
            {tools.some((tool) => tool.approvedHash) && (
              <p class="acts">
                <button name="act" value="withdraw" class="quiet">
                  Withdraw approval of selected
                </button>
              </p>
            )}
          </form>
        )}
    </section>
  );
}

function ToolRow({ tool, serverId, canTry }: { tool: Tool; serverId: string; canTry: boolean }) {
  const url = useUrl();
  const { name, sign } = STATES[tool.state];
  const id = `tool-${tool.hash.slice(0, 12)}`;
  const title = tool.definition.title;
  return (
    <li class={`tool ${tool.state}`}>
      <div class="tool-head">
        <input
          type="checkbox"
          id={id}
          name="pick"
          value={`${tool.hash} ${tool.name}`}
          disabled={tool.state === "gone" && !tool.approvedHash}
        />
        <label for={id}>
          <code>{visibleText(tool.name)}</code>
          {typeof title === "string" && title && <span>{visibleText(title)}</span>}
        </label>
        <span class={`status ${tool.state}`}>
          <span aria-hidden="true">{sign}</span> {name}
        </span>
        {tool.state !== "gone" && <small>{tokens(tokensOf(tool.definition))}</small>}
        {tool.state === "approved" && canTry && (
          <a
            class="button quiet"
            href={url(`/servers/${serverId}/tools/${encodeURIComponent(tool.name)}`)}
          >
            Try it
          </a>
        )}
      </div>
      {tool.state === "changed" && tool.approvedDefinition
        ? <Difference approved={tool.approvedDefinition} now={tool.definition} />
        : (
          <>
            <p class="description">{describe(tool.definition.description)}</p>
            <details>
              <summary>Definition</summary>
              <pre tabindex={0}>{definitionText(tool.definition)}</pre>
            </details>
          </>
        )}
    </li>
  );
}

/** What a definition says of itself, as a person reads it. */
export function describe(description: unknown): string {
  return typeof description === "string" && description.trim()
    ? visibleText(description).slice(0, 4000)
    : "It does not describe itself.";
}
