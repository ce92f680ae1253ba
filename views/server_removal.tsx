import type { GoesAlong } from "../models/server_acts.ts";
import { Form } from "./form.tsx";
import { bytes, count, Field } from "./parts.tsx";
import { useUrl } from "./url.ts";
import { visibleText } from "./visible_text.ts";

/** Before several servers are removed: each with what goes with it, named. */
export function RemovalPage({ all, list }: { all: GoesAlong[]; list: string }) {
  const url = useUrl();
  const keepsData = all.some(({ server }) => server.config.entry.volumes.length > 0);
  return (
    <>
      <p class="crumbs">
        <a href={url(list)}>Servers</a> / Remove
      </p>
      <h1>Remove {count(all.length, "server")}?</h1>
      {all.length === 0
        ? (
          <p class="notice">
            What you selected is gone, or is being removed.{" "}
            <a href={url(list)}>Back to the servers</a>.
          </p>
        )
        : (
          <Form action={url("/servers/acts")} class="card">
            <p>
              With each go its container, its network, its image (if no other server uses it), its
              secrets, its approvals and its connections to agents. Calls and events stay in the
              log.
            </p>
            <ul class="rows">
              {all.map(({ server, agents }) => (
                <li>
                  <input type="hidden" name="server" value={server.id} />
                  <a href={url(`/servers/${server.id}`)}>{server.name}</a>
                  <small>{goesWith(server, agents)}</small>
                </li>
              ))}
            </ul>
            {keepsData && (
              <Field
                name="deleteVolumes"
                label="Delete the data that they keep, too"
                type="checkbox"
                help="Otherwise their volumes stay on their toolboxes."
              />
            )}
            <input type="hidden" name="list" value={list} />
            <p class="acts">
              <button class="danger" name="act" value="remove">
                Remove {count(all.length, "server")}
              </button>
              <a class="button quiet" href={url(list)}>Keep {all.length === 1 ? "it" : "them"}</a>
            </p>
          </Form>
        )}
    </>
  );
}

function goesWith(server: GoesAlong["server"], agents: string[]): string {
  const parts = [`on ${server.toolboxName}`];
  if (server.tools.approved > 0) parts.push(count(server.tools.approved, "approved tool"));
  const secrets = Object.keys(server.config.secrets).length;
  if (secrets > 0) parts.push(count(secrets, "secret"));
  if (agents.length > 0) {
    const more = agents.length > 3 ? ` and ${agents.length - 3} more` : "";
    parts.push(
      `taken from ${agents.slice(0, 3).map((name) => `"${visibleText(name)}"`).join(", ")}${more}`,
    );
  }
  const kept = server.volumes.reduce((sum, { bytes }) => sum + (bytes ?? 0), 0);
  if (server.config.entry.volumes.length > 0) parts.push(`${bytes(kept)} in volumes`);
  return parts.join("; ");
}
