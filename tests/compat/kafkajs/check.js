// kafkajs against BOOTSTRAP: topics, produce, a group that consumes, offsets. Usage: node check.js HOST:PORT
const { Kafka, logLevel, CompressionTypes } = require('kafkajs');

const kafka = new Kafka({ clientId: 'compat', brokers: [process.argv[2]], logLevel: logLevel.ERROR });
const topic = `kafkajs-${process.pid}-${Date.now()}`;
let failures = 0;

async function check(name, run) {
  try {
    await run();
    console.log(`ok   kafkajs ${name}`);
  } catch (error) {
    failures += 1;
    console.log(`FAIL kafkajs ${name}: ${error.message}`);
  }
}

function equal(actual, wanted) {
  if (JSON.stringify(actual) !== JSON.stringify(wanted)) {
    throw new Error(`wanted ${JSON.stringify(wanted)}, got ${JSON.stringify(actual)}`);
  }
}

(async () => {
  const admin = kafka.admin();
  await admin.connect();
  await check('creates a topic', async () => {
    equal(await admin.createTopics({ topics: [{ topic, numPartitions: 2 }], waitForLeaders: true }), true);
    equal((await admin.listTopics()).includes(topic), true);
  });
  const producer = kafka.producer({ idempotent: true });
  await producer.connect();
  await check('produces, idempotent and compressed', async () => {
    const messages = [...Array(100).keys()].map((n) => ({ key: `k${n}`, value: `v${n}`, headers: { n: `${n}` } }));
    await producer.send({ topic, acks: -1, messages: messages.slice(0, 50) });
    await producer.send({ topic, acks: -1, messages: messages.slice(50), compression: CompressionTypes.GZIP });
    equal((await admin.fetchTopicOffsets(topic)).reduce((sum, p) => sum + Number(p.offset), 0), 100);
  });
  await check('consumes in a group and commits', async () => {
    const consumer = kafka.consumer({ groupId: `${topic}-group` });
    await consumer.connect();
    await consumer.subscribe({ topic, fromBeginning: true });
    const seen = new Set();
    await new Promise((resolve, reject) => {
      const limit = setTimeout(() => reject(new Error(`${seen.size} of 100 after 30 s`)), 30000);
      consumer.run({
        eachMessage: async ({ message }) => {
          seen.add(message.value.toString());
          if (seen.size === 100) {
            clearTimeout(limit);
            resolve();
          }
        },
      });
    });
    await consumer.stop();
    await consumer.disconnect();
    const [offsets] = await admin.fetchOffsets({ groupId: `${topic}-group`, topics: [topic] });
    equal(offsets.partitions.reduce((sum, p) => sum + Number(p.offset), 0), 100);
  });
  await check('describes the group and its settings', async () => {
    equal((await admin.describeGroups([`${topic}-group`])).groups[0].state, 'Empty');
    const configs = await admin.describeConfigs({ resources: [{ type: 2, name: topic }], includeSynonyms: false });
    equal(configs.resources[0].configEntries.some((entry) => entry.configName === 'retention.ms'), true);
  });
  await check('deletes the group and the topic', async () => {
    await admin.deleteGroups([`${topic}-group`]);
    await admin.deleteTopics({ topics: [topic] });
  });
  await producer.disconnect();
  await admin.disconnect();
  process.exit(failures);
})();
