import type { JSX } from "hono/jsx/jsx-runtime";
import { type Child, createContext, useContext } from "hono/jsx";
import type { Role } from "../models/workspaces.ts";
import { reaches } from "./role.ts";
import { BasePath } from "./url.ts";

/** Whose eyes a page is made for: what they are in which workspace; null for who is in none. */
export const Eyes = createContext<{ role: Role; workspaceId: string } | null>(null);

/** The field that says which workspace a form was made in: another tab may switch meanwhile. */
export const WORKSPACE_FIELD = "_workspace";

/** Who may send a form, by its address; the first that fits. All others: members. The database decides. */
const SENDERS: [RegExp, Role | "anybody"][] = [
  [/^\/(setup|sign-in|sign-out|new-password|join|account|workspaces)(\/|$)/, "anybody"],
  [/^\/workspace\/leave$/, "viewer"],
  [/^\/workspace\/(transfer|delete|bodies)$/, "owner"],
  [/^\/(workspace|toolboxes|marketplace\/sources)(\/|$)/, "admin"],
  [/^\/agents\/[^/]+\/management$/, "admin"],
];

/** Whether who looks at the page may send a form to an address, as `url()` gives it. */
export function useMay(): (action: string) => boolean {
  const base = useContext(BasePath), eyes = useContext(Eyes);
  return (action) => {
    const path = action.slice(base.length).split(/[?#]/)[0];
    const sender = SENDERS.find(([paths]) => paths.test(path))?.[1] ?? "member";
    return sender === "anybody" || (eyes !== null && reaches(eyes.role, sender));
  };
}

type FormProps = Omit<JSX.IntrinsicElements["form"], "method" | "action"> & {
  action: string;
  /** It is a list as well: whoever may not send it sees that, without {@link Sending}'s buttons and boxes. */
  isList?: boolean;
  /** Said to whoever may not send it, where its place would be empty without. */
  instead?: string;
};

const IsSent = createContext(true);

/** Of a form that is a list as well: what is there for those alone who may send it. */
export function Sending({ children }: { children?: Child }) {
  return useContext(IsSent) ? <>{children}</> : null;
}

/** A box that picks one of the list, with its label; the label alone for whoever may not send it. */
export function Picked({ id, label, children }: { id: string; label: Child; children?: Child }) {
  if (!useContext(IsSent)) return <span class="picked">{label}</span>;
  return (
    <>
      {children}
      <label for={id}>{label}</label>
    </>
  );
}

/**
 * A form that changes something. Whose role does not reach is given no form at all, whatever page it is
 * on. A view writes no `<form method="post">` of its own.
 */
export function Form({ action, isList, instead, children, ...rest }: FormProps) {
  const eyes = useContext(Eyes);
  if (!useMay()(action)) {
    if (instead) return <p class="help">{instead}</p>;
    return isList
      ? (
        <div class={rest.class}>
          <IsSent.Provider value={false}>{children}</IsSent.Provider>
        </div>
      )
      : null;
  }
  return (
    <form {...rest} method="post" action={action}>
      {eyes && <input type="hidden" name={WORKSPACE_FIELD} value={eyes.workspaceId} />}
      {children}
    </form>
  );
}
