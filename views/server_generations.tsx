import type { Change } from "../models/server_changes.ts";
import type { Generation, Server } from "../models/servers.ts";
import { Form } from "./form.tsx";
import { Time } from "./parts.tsx";
import { useUrl } from "./url.ts";
import { visibleText } from "./visible_text.ts";

/** Every generation with what it changed, and the way back to it. */
export function Generations(
  { server, generations }: { server: Server; generations: Generation[] },
) {
  return (
    <section class="card" id="generations" aria-labelledby="generations-title">
      <h2 id="generations-title">Generations</h2>
      <ol class="events" reversed>
        {generations.map((row) => (
          <li>
            <Time at={row.createdAt} relative />
            <div>
              Generation {row.generation}{" "}
              {row.createdByName && <small>by {row.createdByName}</small>}{" "}
              {row.rolledBackTo && (
                <small>
                  made by Mooring: generation {row.generation - 1}{" "}
                  did not get ready, so the settings of {row.rolledBackTo} are back
                </small>
              )} {!row.readyAt && <small>never ready</small>}
              {row.failure && <Failure reason={row.failure} log={row.failureLog} />}
              <Changes changes={row.changes} />
              {row.generation < server.generation && !server.removedAt && (
                <GoBack server={server} generation={row.generation} />
              )}
            </div>
          </li>
        ))}
      </ol>
    </section>
  );
}

/** Why something did not get ready, with the last that it wrote. */
export function Failure({ reason, log }: { reason: string | null; log: string[] }) {
  return (
    <>
      <p class="why">{visibleText(reason ?? "Its toolbox did not say why")}</p>
      {log.length > 0 && (
        <details>
          <summary>What it wrote last</summary>
          <pre class="log" tabindex={0} data-follow><code>{visibleText(log.join("\n"))}</code></pre>
        </details>
      )}
    </>
  );
}

function Changes({ changes }: { changes: Change[] }) {
  if (changes.length === 0) return null;
  return (
    <ul class="diff">
      {changes.map(({ name, before, after }) => (
        <li>
          {visibleText(name)}: {before !== null && <del>{visibleText(before)}</del>}{" "}
          {after !== null && <ins>{visibleText(after)}</ins>}
        </li>
      ))}
    </ul>
  );
}

function GoBack({ server, generation }: { server: Server; generation: number }) {
  const url = useUrl();
  return (
    <Form action={url(`/servers/${server.id}/rollback`)} class="inline">
      <input type="hidden" name="generation" value={String(generation)} />
      <button class="quiet small" aria-label={`Go back to generation ${generation}`}>
        Go back to it
      </button>
    </Form>
  );
}
