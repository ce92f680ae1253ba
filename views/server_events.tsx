import type { Event } from "../models/events.ts";
import type { Server } from "../models/servers.ts";
import { Empty, Time } from "./parts.tsx";
import { tabPath } from "./server.tsx";
import { generationPath } from "./server_generations.tsx";
import { useUrl } from "./url.ts";
import { visibleText } from "./visible_text.ts";

/** The newest events, beside other things. */
export function ServerEvents({ server, events }: { server: Server; events: Event[] }) {
  const url = useUrl();
  return (
    <section class="card" id="events" aria-labelledby="events-title">
      <h2 id="events-title">Events</h2>
      <ol class="events">
        {events.map((event) => <EventRow server={server} event={event} />)}
      </ol>
      <p>
        <a href={url(tabPath(server.id, "events"))}>All events</a>
      </p>
    </section>
  );
}

/** The tab: all that happened to a server, a page at a time. */
export function EventsTab(
  { server, events, older, isFirst }: {
    server: Server;
    events: Event[];
    /** The event from which on the next page is; null: there is none. */
    older: string | null;
    isFirst: boolean;
  },
) {
  const url = useUrl();
  const path = url(tabPath(server.id, "events"));
  return (
    <section class="card" id="all-events" aria-labelledby="all-events-title">
      <h2 id="all-events-title">{isFirst ? "Events, newest first" : "Earlier events"}</h2>
      {events.length === 0
        ? (
          <Empty title="Nothing earlier">
            <p>
              <a href={path}>Back to the newest events</a>.
            </p>
          </Empty>
        )
        : (
          <ol class="events whole">
            {events.map((event) => <EventRow server={server} event={event} />)}
          </ol>
        )}
      {(older || !isFirst) && (
        <nav class="pages" aria-label="Pages of events">
          {isFirst ? <span></span> : <a href={path}>Newest events</a>}
          {older && <a href={`${path}?before=${older}`} rel="next">Earlier events</a>}
        </nav>
      )}
    </section>
  );
}

function EventRow({ server, event }: { server: Server; event: Event }) {
  const url = useUrl();
  return (
    <li class={event.level}>
      <Time at={event.at} relative />
      <span>
        {event.level !== "info" && <strong>{event.level === "error" ? "Error" : "Warning"}:
        </strong>} {visibleText(event.message)}{" "}
        {event.actorName && <small>by {event.actorName}</small>}
      </span>
      {event.generation !== null && (
        <a
          href={url(generationPath(server.id, event.generation))}
          aria-label={`Generation ${event.generation}`}
        >
          <small>generation {event.generation}</small>
        </a>
      )}
    </li>
  );
}
