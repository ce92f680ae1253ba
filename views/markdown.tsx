import type { Child } from "hono/jsx";
import { jsx } from "hono/jsx";
import MarkdownIt, { type Token } from "markdown-it";
import { Copy } from "./parts.tsx";
import { visibleText } from "./visible_text.ts";

/** HTML in it stays text. What makes links of bare addresses is left out: they are where text was meant. */
const parser = new MarkdownIt({ html: false, linkify: false });

/** Beyond it text is shown as it is: nobody reads it, and a page is made anew while a model writes. */
const LIMIT_CHARS = 100_000;

/**
 * What a model wrote, by markdown-it's parse alone: its tokens become elements of a short list, text is escaped
 * as all text of pages is, and nothing is ever taken over as HTML. Pictures become links: fetched, they would
 * tell whoever the model was made to name what stands in their address.
 *
 * @param id unique on the page, and the same each time this text is shown: code blocks are copied by it
 */
export function Markdown({ text, id }: { text: string; id: string }) {
  if (text.length > LIMIT_CHARS) return <pre tabindex={0}>{visibleText(text)}</pre>;
  return <div class="markdown">{new Writer(parser.parse(text, {}), id).children(null)}</div>;
}

/** Elements that a token may become, besides headings. */
const ELEMENTS: Record<string, string> = {
  p: "p",
  ul: "ul",
  ol: "ol",
  li: "li",
  blockquote: "blockquote",
  table: "table",
  thead: "thead",
  tbody: "tbody",
  tr: "tr",
  th: "th",
  td: "td",
  strong: "strong",
  em: "em",
  s: "s",
};

/** The page's own headings that the text stands below. */
const HEADINGS_ABOVE = 2;

class Writer {
  #at = 0;
  #codes = 0;
  /** Headings that are open, as they are written: models leave levels out, and a page may not. */
  #headings: string[] = [];

  constructor(private readonly tokens: Token[], private readonly id: string) {}

  /** Up to the token that closes what is open. */
  children(closing: string | null): Child[] {
    const children: Child[] = [];
    while (this.#at < this.tokens.length) {
      const token = this.tokens[this.#at++];
      if (token.type === closing) break;
      children.push(this.#element(token));
    }
    return children;
  }

  #element(token: Token): Child {
    if (token.type === "inline") return <Inline tokens={token.children ?? []} id={this.id} />;
    if (token.type === "fence" || token.type === "code_block") {
      const text = visibleText(token.content.replace(/\n$/, ""));
      const language = visibleText(token.info.trim().split(/\s/)[0].slice(0, 40));
      const id = `${this.id}-code-${this.#codes++}`;
      return <Copy id={id} text={text} label={language ? `${language} code` : "code"} />;
    }
    if (token.type === "hr") return <hr />;
    if (token.type === "hardbreak") return <br />;
    if (token.type === "softbreak") return "\n";
    if (token.type === "code_inline") return <code>{visibleText(token.content)}</code>;
    if (token.type === "image") return <Image token={token} />;
    if (token.nesting !== 1) return visibleText(token.content);

    const children = this.children(token.type.replace(/_open$/, "_close"));
    if (token.type === "link_open") {
      return <Link address={String(token.attrGet("href") ?? "")}>{children}</Link>;
    }
    // A list whose items stand close together has paragraphs that are none.
    if (token.hidden) return <>{children}</>;
    const element = token.type === "heading_open" ? this.#heading(token) : ELEMENTS[token.tag];
    if (!element) return <>{children}</>;
    const start = element === "ol" ? token.attrGet("start") : null;
    const made = jsx(
      element,
      start === null ? {} : { start: String(start) },
      ...children as string[],
    );
    return element === "table" ? <div class="table" tabindex={0}>{made}</div> : made;
  }

  #heading({ tag }: Token): string {
    while (this.#headings.length > 0 && this.#headings.at(-1)! >= tag) this.#headings.pop();
    this.#headings.push(tag);
    return `h${Math.min(HEADINGS_ABOVE + this.#headings.length, 6)}`;
  }
}

function Inline({ tokens, id }: { tokens: Token[]; id: string }) {
  return <>{new Writer(tokens, id).children(null)}</>;
}

function Link({ address, children }: { address: string; children?: Child }) {
  if (!isFit(address)) return <>{children}</>;
  return (
    <a href={address} target="_blank" rel="noopener noreferrer nofollow" title={address}>
      {children}
    </a>
  );
}

function Image({ token }: { token: Token }) {
  const address = String(token.attrGet("src") ?? "");
  const name = visibleText(token.content || address.slice(0, 200));
  return <Link address={address}>[picture: {name}]</Link>;
}

/** Whether an address leads to the web or to mail, and nowhere else: no script, no file, no page of ours. */
function isFit(address: string): boolean {
  const url = URL.parse(address);
  return url !== null && ["https:", "http:", "mailto:"].includes(url.protocol);
}
