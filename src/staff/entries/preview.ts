/** The answer to `Assent-Dry-Run: 1`: what a change of rights would do, in the shape of whoever asked. */
import type { RightChange } from './rights.ts';

/** What would come of a change. */
export interface Foreseen<E> {
  /** Null: the entry would be made. */
  readonly before: E | null;
  /** Null: it would be removed. */
  readonly after: E | null;
  readonly changes: readonly RightChange[];
  /** An invitation would be mailed. */
  readonly invited?: boolean;
}

const ended = (held: { readonly until: number | null } | null): { until: string | null } | null =>
  held === null ? null : { until: held.until === null ? null : new Date(held.until).toISOString() };

/** The body of the answer. @param show an entry as the dialect shows it */
export const previewOf = <E>(
  { before, after, changes, invited = false }: Foreseen<E>,
  show: (entry: E) => object,
): object => ({
  dry_run: true,
  before: before === null ? null : show(before),
  after: after === null ? null : show(after),
  changes: changes.map(({ shop, permission, before: had, after: has }) => ({
    shop,
    permission,
    before: ended(had),
    after: ended(has),
  })),
  invited,
});

const held = {
  type: ['object', 'null'],
  required: ['until'],
  properties: { until: { type: ['string', 'null'], format: 'date-time' } },
};

/** Its JSON Schema, for OpenAPI. @param entry an entry as the dialect shows it */
export const previewSchema = (entry: object, title: string): object => ({
  title,
  type: 'object',
  required: ['dry_run', 'before', 'after', 'changes', 'invited'],
  properties: {
    dry_run: { type: 'boolean', const: true },
    before: { anyOf: [entry, { type: 'null' }] },
    after: { anyOf: [entry, { type: 'null' }] },
    changes: {
      type: 'array',
      items: {
        type: 'object',
        required: ['shop', 'permission', 'before', 'after'],
        properties: { shop: { type: 'integer' }, permission: { type: 'string' }, before: held, after: held },
      },
    },
    invited: { type: 'boolean' },
  },
});

/** What routes say of the header in their description. */
export const DRY_RUN =
  'With `Assent-Dry-Run: 1` nothing is written and nobody is mailed: the answer says what would become of the entry.';
