/** Names and texts as they stand in SQL text, where no parameter can. */

/** A name as an identifier. */
export const identifier = (name: string): string => `"${name.replaceAll(`"`, `""`)}"`

/** A text as a literal; one without a backslash, which some servers read in another way. */
export const literal = (text: string): string => `'${text.replaceAll(`'`, `''`)}'`

/** The name of something in a schema as a text that PostgreSQL reads as one. */
export const nameIn = (schema: string, name: string): string => `${identifier(schema)}.${identifier(name)}`
