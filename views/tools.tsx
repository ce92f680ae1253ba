import type { Server } from "../models/servers.ts";
import type { Tool } from "../models/tools.ts";
import { Form, useMay } from "./form.tsx";
import { count, Empty, tokens } from "./parts.tsx";
import { Approvals, Described, Pinned, PinRow } from "./pins.tsx";
import { tokensOf } from "./token_cost.ts";
import { useUrl } from "./url.ts";
import { visibleText } from "./visible_text.ts";

/** A server's tools, with the form that approves exactly the definitions on the page. */
export function ToolList({ server, tools }: { server: Server; tools: Tool[] }) {
  const url = useUrl();
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
          <Form action={url(`/servers/${server.id}/tools`)} isList>
            <Approvals
              id="tools-waiting"
              pins={tools}
              pickOf={pickOf}
              waits={(open) => (
                <>
                  {count(open, "tool")} {open === 1 ? "waits" : "wait"}{" "}
                  for you. Read what they say of themselves: agents will read it too, and follow it.
                </>
              )}
              settled="All are approved. A tool whose definition changes is withheld until you approve it again."
            >
              <ul class="tools">
                {tools.map((tool) => (
                  <ToolRow tool={tool} serverId={server.id} canTry={server.status === "running"} />
                ))}
              </ul>
            </Approvals>
          </Form>
        )}
    </section>
  );
}

/** `hash name`, as the checkboxes carry it. */
function pickOf({ hash, name }: Tool): string {
  return `${hash} ${name}`;
}

function ToolRow({ tool, serverId, canTry }: { tool: Tool; serverId: string; canTry: boolean }) {
  const url = useUrl();
  const { title } = tool.definition;
  const trial = url(`/servers/${serverId}/tools/${encodeURIComponent(tool.name)}`);
  const mayTry = useMay()(trial);
  return (
    <PinRow
      pin={tool}
      id={`tool-${tool.hash.slice(0, 12)}`}
      pick={pickOf(tool)}
      label={
        <>
          <code>{visibleText(tool.name)}</code>
          {typeof title === "string" && title && <span>{visibleText(title)}</span>}
        </>
      }
      aside={
        <>
          {tool.state !== "gone" && <small>{tokens(tokensOf(tool.definition))}</small>}
          {tool.state === "approved" && canTry && mayTry && (
            <a
              class="button quiet"
              href={trial}
            >
              Try it
            </a>
          )}
        </>
      }
    >
      <Pinned pin={tool}>
        <Described definition={tool.definition} />
      </Pinned>
    </PinRow>
  );
}
