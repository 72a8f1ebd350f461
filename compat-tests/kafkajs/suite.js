// KafkaJS for the named cases of common/cases.py.   suite.js HOST:PORT RUN cases|write|read [SUITE:CODEC...]
'use strict'
const assert = require('node:assert')
const { Kafka, logLevel } = require('kafkajs')
const codecs = require('./codecs')
const { SHARED_RECORDS, sharedTopic, record, records, compare } = require('./spec')

const SUITE = 'kafkajs'
const [bootstrap, run, phase, ...pairs] = process.argv.slice(2)
const base = Number(run) - 3_600_000
const kafka = new Kafka({ brokers: [bootstrap], clientId: SUITE, logLevel: logLevel.NOTHING, retry: { retries: 20 } })
const admin = kafka.admin()
let failed = false
let groups = 0

async function wait(what, condition) {
  const end = Date.now() + 60_000
  while (!condition()) {
    assert(Date.now() < end, `not within 60 s: ${what()}`)
    await new Promise(resolve => setTimeout(resolve, 20))
  }
}

async function test(name, body) {
  try {
    await body()
    console.log(`ok ${name}`)
  } catch (error) {
    failed = true
    console.log(`FAIL ${name} ${String(error).replaceAll('\n', ' ')}`)
    console.error(error)
  }
}

async function create(topic, numPartitions) {
  await admin.createTopics({ topics: [{ topic, numPartitions, replicationFactor: 1 }], waitForLeaders: true })
  return topic
}
const newTopic = (name, partitions = 1) => create(`${SUITE}-${name}-${run}`, partitions)

async function produce(topic, messages, { acks = -1, codec = 'none', idempotent = false } = {}) {
  const producer = kafka.producer({ idempotent, maxInFlightRequests: 1, retry: { retries: 20 } })
  await producer.connect()
  try {
    return await producer.send({ topic, messages, acks, compression: codecs.types[codec] })
  } finally {
    await producer.disconnect()
  }
}

// A group member that remembers what it read and what it owns.
class Member {
  constructor(topics, groupId, { autoCommit = true, all = new Set() } = {}) {
    Object.assign(this, { topics, autoCommit, all, got: [], owned: [] })
    this.consumer = kafka.consumer({
      groupId, sessionTimeout: 10_000, heartbeatInterval: 500, maxWaitTimeInMs: 100, rebalanceTimeout: 10_000,
    })
    this.consumer.on('consumer.group_join', e => (this.owned = e.payload.memberAssignment[topics[0]] ?? []))
    this.consumer.on('consumer.crash', e => (this.crash = e.payload.error))
    this.consumer.on('consumer.rebalancing', () => (this.owned = []))
  }

  async start() {
    await this.consumer.connect()
    await this.consumer.subscribe({ topics: this.topics, fromBeginning: true })
    await this.consumer.run({
      autoCommit: this.autoCommit, autoCommitInterval: 200,
      eachMessage: async ({ topic, partition, message }) => {
        this.got.push({ topic, partition, ...message })
        this.all.add(`${partition}@${message.offset}`)
      },
    })
    return this
  }

  async stop(commitAt) {
    if (commitAt !== undefined) {
      await this.consumer.commitOffsets([{ topic: this.topics[0], partition: 0, offset: String(commitAt) }])
    }
    await this.consumer.disconnect()
  }
}

// KafkaJS reads only as a member of a group: a new group for each call. Records per partition, in their order.
async function read(topic, count, from) {
  const member = new Member([topic].flat(), `${SUITE}-read-${groups++}-${run}`, { autoCommit: false })
  try {
    await member.start()
    if (from) member.consumer.seek({ topic, partition: 0, offset: String(from) })
    await wait(() => `${count} records, read ${member.got.length}`, () => {
      if (member.crash) throw member.crash
      return member.got.length >= count
    })
  } finally {
    await member.stop()
  }
  return member.got
}

async function roundTrip(topic, messages, options) {
  const answer = await produce(topic, messages, options)
  compare(messages, await read(topic, messages.length))
  return answer
}

async function codec(name) {
  const topic = await create(sharedTopic(SUITE, name, run), 1)
  const [answer] = await roundTrip(topic, records(SUITE, name, base, 0, SHARED_RECORDS), { codec: name })
  assert.equal(answer.baseOffset, '0')
}

async function idempotent() {
  const topic = await newTopic('idempotent', 3)
  const all = Array.from({ length: 3000 }, (_, i) => ({
    key: null, value: Buffer.from(String(i)), timestamp: String(base + i), partition: i % 3,
  }))
  const producer = kafka.producer({ idempotent: true, maxInFlightRequests: 1 })
  await producer.connect()
  for (let i = 0; i < all.length; i += 100) {
    await producer.send({ topic, messages: all.slice(i, i + 100), acks: -1 })
  }
  await producer.disconnect()
  const got = await read(topic, all.length)
  for (const p of [0, 1, 2]) {
    compare(all.filter(r => r.partition === p), got.filter(r => r.partition === p))
  }
}

async function largeRecord() {
  const value = Buffer.alloc(900_000).map((_, i) => (i * i) % 256)
  await roundTrip(await newTopic('large'), [{ key: Buffer.from('k'), value, timestamp: String(base), partition: 0 }])
}

async function seekByTime() {
  const topic = await newTopic('time')
  for (const start of [0, 10, 20]) await produce(topic, records(SUITE, 'time', base, start, start + 10))
  const got = []
  for (const ms of [-1, 0, 14_000, 14_001, 29_000, 29_001]) {
    const [{ offset }] = await admin.fetchTopicOffsetsByTimestamp(topic, base + ms)
    got.push(Number(offset))
  }
  // past the last record, this library answers with the end of the log
  assert.deepEqual(got, [0, 0, 14, 15, 29, 30])
  const tail = (await read(topic, 16, 14)).filter(r => Number(r.offset) >= 14).slice(-16)
  compare(records(SUITE, 'time', base, 14, 30), tail, 14)
}

async function commitAndResume() {
  const topic = await newTopic('resume')
  const group = `${SUITE}-resume-${run}`
  const sent = records(SUITE, 'resume', base, 0, 40)
  await produce(topic, sent)
  const first = await new Member([topic], group, { autoCommit: false }).start()
  await wait(() => '40 records for the first member', () => first.got.length >= 40)
  compare(sent, first.got)
  await first.stop(25)
  const [{ partitions }] = await admin.fetchOffsets({ groupId: group, topics: [topic] })
  assert.equal(partitions[0].offset, '25')
  const second = await new Member([topic], group, { autoCommit: false }).start()
  await wait(() => '15 records for the second member', () => second.got.length >= 15)
  compare(sent.slice(25), second.got, 25)
  await second.stop()
}

function spread(members) {
  const owned = members.flatMap(m => m.owned)
  return owned.length === 6 && new Set(owned).size === 6 && members.every(m => m.owned.length > 0)
}

async function groupOfThree() {
  const topic = await newTopic('group', 6)
  const all = new Set()
  const sent = []
  const members = []
  let stop = false
  const load = (async () => {
    while (!stop) {
      const messages = Array.from({ length: 12 }, (_, i) => ({ value: 'v', partition: i % 6 }))
      for (const { partition, baseOffset } of await produce(topic, messages)) {
        sent.push(`${partition}@${baseOffset}`, `${partition}@${Number(baseOffset) + 1}`)
      }
      await new Promise(resolve => setTimeout(resolve, 100))
    }
  })()
  const settle = () =>
    wait(() => `one owner each: ${JSON.stringify(members.map(m => m.owned))}`, () => spread(members))
  try {
    for (let i = 0; i < 3; i++) {
      members.push(await new Member([topic], `${SUITE}-group-${run}`, { all }).start())
      await settle()
    }
    for (let i = 0; i < 2; i++) {
      await members.shift().stop()
      await settle()
    }
  } finally {
    stop = true
    await load
  }
  assert(sent.length > 0, 'nothing was produced')
  await wait(() => `${sent.filter(s => !all.has(s)).length} of ${sent.length} records consumed`,
    () => sent.every(s => all.has(s)))
  await members.pop().stop()
}

async function write() {
  for (const name of Object.keys(codecs.types)) await test(`codec_${name}`, () => codec(name))
}

async function cases() {
  for (const acks of [0, 1, -1]) {
    const name = acks < 0 ? 'all' : acks
    await test(`acks_${name}`, async () =>
      roundTrip(await newTopic(`acks-${name}`), records(SUITE, 'acks', base, 0, 100), { acks }))
  }
  await write()
  await test('idempotent', idempotent)
  await test('auto_create', () => roundTrip(`${SUITE}-auto-${run}`, [record(SUITE, 'auto', 0, base)]))
  await test('large_record', largeRecord)
  await test('seek_by_time', seekByTime)
  await test('commit_and_resume', commitAndResume)
  await test('group_of_three', groupOfThree)
}

async function readShared() {
  const split = pairs.map(pair => pair.split(':'))
  const topics = split.map(([suite, name]) => sharedTopic(suite, name, run))
  let got = []
  await test('read_all', async () => (got = await read(topics, topics.length * SHARED_RECORDS)))
  for (const [i, [suite, name]] of split.entries()) {
    await test(`read_${suite}_${name}`, () =>
      compare(records(suite, name, base, 0, SHARED_RECORDS), got.filter(r => r.topic === topics[i])))
  }
}

async function main() {
  await codecs.ready()
  await admin.connect()
  await { cases, write, read: readShared }[phase]()
  await admin.disconnect()
  process.exit(failed ? 1 : 0)
}

main()
