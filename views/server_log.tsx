import type { Server } from "../models/servers.ts";
import { Empty } from "./parts.tsx";
import { useUrl } from "./url.ts";
import { visibleText } from "./visible_text.ts";

/** Lines that the page shows; the whole is there to download. */
const LINES_SHOWN = 2000;

/** All of a server's log that its toolbox keeps, with a search. */
export function LogPage(
  { server, text, search }: { server: Server; text: string; search: string },
) {
  const url = useUrl();
  const path = url(`/servers/${server.id}`);
  const lines = text.split("\n").filter(Boolean);
  return (
    <>
      <p class="crumbs">
        <a href={url("/servers")}>Servers</a> / <a href={path}>{server.name}</a> / Log
      </p>
      <div class="head">
        <h1>Log of {server.name}</h1>
        <div class="acts">
          <a class="button quiet" href={`${path}/log?download`} download>Download</a>
        </div>
      </div>
      <form class="search" role="search">
        <input
          type="search"
          name="search"
          value={search}
          aria-label="Words to look for"
          placeholder="Words to look for"
        />
        <button class="quiet">Search</button>
      </form>
      {lines.length === 0
        ? (
          <Empty title={search ? "No line has these words" : "Nothing was written yet"}>
            <p>
              What a server writes to its standard error, and what its build prints, is kept here:
              the last 2 MiB of it.
            </p>
          </Empty>
        )
        : (
          <>
            {lines.length > LINES_SHOWN && (
              <p class="help">The last {LINES_SHOWN} of {lines.length} lines.</p>
            )}
            <pre class="log whole" tabindex={0} data-follow>
              <code>{visibleText(lines.slice(-LINES_SHOWN).join("\n"))}</code>
            </pre>
          </>
        )}
    </>
  );
}
