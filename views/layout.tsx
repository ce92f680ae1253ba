import type { Child } from "hono/jsx";
import type { Person } from "../models/identity.ts";
import type { Workspace } from "../models/workspaces.ts";
import { Form } from "./form.tsx";
import { useUrl } from "./url.ts";
import { visibleText } from "./visible_text.ts";

/** What every page knows of who looks at it. */
export interface Viewer {
  person: Person;
  workspace: Workspace;
  /** All that they are in. */
  workspaces: Workspace[];
}

/** Addresses of the assets, with their content's hash in them. */
export interface Assets {
  css: string;
  scripts: string[];
}

const REQUESTS = "/requests";
const PLACES = [
  { path: "/", name: "Overview" },
  { path: "/marketplace", name: "Marketplace" },
  { path: "/servers", name: "Servers" },
  { path: "/agents", name: "Agents" },
  { path: "/chat", name: "Chat" },
  { path: REQUESTS, name: "Requests" },
  { path: "/calls", name: "Calls" },
  { path: "/toolboxes", name: "Toolboxes" },
];

/** Where a person sees to what is their own, whatever they are in the workspace. */
const OWN = ["/account", "/workspaces", "/workspace"];

/** The frame of every page. `said` is announced to screen readers and shown at the top. */
export function Layout(props: {
  title: string;
  assets: Assets;
  viewer: Viewer | null;
  path: string;
  said?: string | null;
  children?: Child;
}) {
  const isOwn = OWN.some((place) => isHere(place, props.path));
  return (
    <html lang="en">
      <head>
        <meta charset="utf-8" />
        <meta name="viewport" content="width=device-width, initial-scale=1" />
        <meta name="color-scheme" content="light dark" />
        <meta name="htmx-config" content={HTMX_CONFIG} />
        <title>{props.title} · Mooring</title>
        <link rel="icon" type="image/svg+xml" href={ICON} />
        <link rel="stylesheet" href={props.assets.css} />
        {props.assets.scripts.map((src) => <script src={src} defer></script>)}
      </head>
      <body data-role={props.viewer?.workspace.role}>
        <a class="skip" href="#main">Skip to the page</a>
        {props.viewer && <Header viewer={props.viewer} path={props.path} />}
        <p role="status" id="said" class="said">{props.said}</p>
        <main
          id="main"
          tabindex={-1}
          class={props.viewer ? undefined : "narrow"}
        >
          {props.viewer?.workspace.role === "viewer" && !isOwn && (
            <p class="help">
              You are a viewer here: you can look at everything, and change nothing.
            </p>
          )}
          {props.children}
        </main>
        <p role="status" id="stale" class="said"></p>
      </body>
    </html>
  );
}

/** A live update leaves alone what its reader did: what they opened, and where they scrolled to. */
const HTMX_CONFIG = JSON.stringify({
  includeIndicatorCSS: false,
  morphIgnore: ["data-htmx-powered", "open", "data-followed", "data-at-end"],
});

const ICON =
  "data:image/svg+xml,%3Csvg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 24 24' fill='none' stroke='%231769aa' stroke-width='2' stroke-linecap='round' stroke-linejoin='round'%3E%3Ccircle cx='12' cy='5' r='2.5'/%3E%3Cpath d='M12 7.5V21M5 13c0 4.5 3 8 7 8s7-3.5 7-8M8 11h8'/%3E%3C/svg%3E";

/** The anchor of Mooring's mark, drawn in the text's colour. */
export function Mark() {
  return (
    <svg class="mark" viewBox="0 0 24 24" aria-hidden="true">
      <circle cx="12" cy="5" r="2.5" />
      <path d="M12 7.5V21M5 13c0 4.5 3 8 7 8s7-3.5 7-8M8 11h8" />
    </svg>
  );
}

function Header({ viewer, path }: { viewer: Viewer; path: string }) {
  const url = useUrl();
  return (
    <header class="top">
      <a class="brand" href={url("/")}>
        <Mark />
        <span>Mooring</span>
      </a>
      <nav aria-label="Main">
        {PLACES.map((place) => (
          <a
            href={url(place.path)}
            aria-current={isHere(place.path, path)
              ? (place.path === path ? "page" : "true")
              : undefined}
          >
            {place.name}
            {place.path === REQUESTS && <OpenRequestCount of={viewer.workspace.openWishes ?? 0} />}
          </a>
        ))}
      </nav>
      <div class="who">
        <WorkspaceMenu viewer={viewer} />
        <Form action={url("/sign-out")}>
          <button class="quiet">Sign out</button>
        </Form>
      </div>
    </header>
  );
}

/** How many requests of agents wait for a person. */
export function OpenRequestCount({ of }: { of: number }) {
  return (
    <span id="open-request-count">
      {of > 0 && (
        <>
          {" "}
          <span class="count">{of}</span> <span class="hidden">waiting</span>
        </>
      )}
    </span>
  );
}

/** The workspace that the pages are about, the others to switch to, and what is the person's own. */
function WorkspaceMenu({ viewer: { person, workspace, workspaces } }: { viewer: Viewer }) {
  const url = useUrl();
  const others = workspaces.filter(({ id }) => id !== workspace.id);
  return (
    <details class="menu">
      <summary>
        <span class="hidden">Workspace</span> {visibleText(workspace.name)}
        {workspace.role === "viewer" && <span class="badge">viewer</span>}
      </summary>
      <div>
        <p class="help">{person.email}, {workspace.role} here</p>
        <a href={url("/workspace")}>Members and settings</a>
        <a href={url("/account")}>Your account</a>
        {others.length > 0 && (
          <>
            <h2>Switch to</h2>
            {others.slice(0, 12).map(({ id, name }) => (
              <Form action={url(`/workspaces/${id}/switch`)}>
                <button class="quiet">{visibleText(name)}</button>
              </Form>
            ))}
          </>
        )}
        <a href={url("/workspaces")}>{others.length > 12 ? "All workspaces" : "Workspaces"}</a>
      </div>
    </details>
  );
}

function isHere(place: string, path: string): boolean {
  return place === "/" ? path === "/" : path === place || path.startsWith(`${place}/`);
}
