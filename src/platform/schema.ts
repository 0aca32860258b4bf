/** JSON Schemas of answers, for OpenAPI. */

/** An object that has all of these. With a title it becomes a component that generated clients name. */
export const object = (properties: Readonly<Record<string, object>>, title?: string): object => ({
  ...(title === undefined ? {} : { title }),
  type: 'object',
  required: Object.keys(properties),
  properties,
});

export const text = { type: 'string' };
export const textOrNull = { type: ['string', 'null'] };
export const integer = { type: 'integer' };
export const flag = { type: 'boolean' };
export const flagOrNull = { type: ['boolean', 'null'] };
export const time = { type: 'string', format: 'date-time' };
export const timeOrNull = { type: ['string', 'null'], format: 'date-time' };

/** A page of a list, with `next` to ask for the page after it. */
export const page = (items: object, title?: string): object =>
  object({ items: { type: 'array', items }, next: textOrNull }, title);
