// The same records as common/spec.py makes.
'use strict'
const assert = require('node:assert')

const SHARED_RECORDS = 25

const sharedTopic = (suite, codec, run) => `shared-${suite}-${codec}-${run}`

function body(index) {
  if (index % 7 === 6) return null
  const large = index === 1
  return Buffer.alloc(large ? 100_000 : 10 * index).map((_, j) =>
    large ? (j * 31 + index) % 251 : (j * 7 + index) % 256
  )
}

function record(suite, codec, index, base) {
  const headers = { h: ['a', 'b'], bin: Buffer.from([0, 255, index]) }
  return {
    key: index % 5 === 4 && index % 7 !== 6 ? null : Buffer.from(`${suite}/${codec}/${index}`),
    value: body(index),
    headers: index % 3 === 0 ? {} : headers,
    timestamp: String(base + index * 1000),
    partition: 0,
  }
}

const records = (suite, codec, base, from, to) =>
  Array.from({ length: to - from }, (_, i) => record(suite, codec, from + i, base))

const flat = headers =>
  Object.entries(headers ?? {}).flatMap(([name, values]) =>
    [values].flat().map(value => `${name}=${Buffer.from(value).toString('hex')}`)
  )

// Every byte: key, value, headers in their order, timestamp, and offsets without a gap.
function compare(want, got, first = 0) {
  assert.equal(got.length, want.length, `wrote ${want.length} records, read ${got.length}`)
  want.forEach((w, i) => {
    const g = got[i]
    assert.equal(g.offset, String(first + i), `record ${i}: offset ${g.offset}`)
    for (const field of ['key', 'value']) {
      const same = w[field] === null ? g[field] === null : g[field] !== null && w[field].equals(g[field])
      assert(same, `record ${i}: another ${field}`)
    }
    assert.equal(g.timestamp, w.timestamp, `record ${i}: timestamp ${g.timestamp}`)
    assert.deepEqual(flat(g.headers), flat(w.headers), `record ${i}: other headers`)
  })
}

module.exports = { SHARED_RECORDS, sharedTopic, record, records, compare }
