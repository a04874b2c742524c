// Apache Curator's recipes, on the Java client of ZooKeeper 3.6.2, against an ensemble: locks, semaphore, leader latch and selector,
// barriers, queues, caches, counters, nodes that persist. Run by recipes.sh as a single source file.
//   CuratorRecipes HOSTS [SECONDS]
// Without SECONDS each has some rounds, one after the other. With SECONDS those that promise something while members die go on that long,
// all at once; their sessions have to outlive it. Prints one line a recipe; the exit status is the number of failures.
import java.nio.charset.StandardCharsets;
import java.util.*;
import java.util.concurrent.*;
import java.util.concurrent.atomic.*;
import org.apache.curator.framework.*;
import org.apache.curator.framework.recipes.atomic.*;
import org.apache.curator.framework.recipes.barriers.*;
import org.apache.curator.framework.recipes.cache.*;
import org.apache.curator.framework.recipes.leader.*;
import org.apache.curator.framework.recipes.locks.*;
import org.apache.curator.framework.recipes.nodes.*;
import org.apache.curator.framework.recipes.queue.*;
import org.apache.curator.framework.recipes.shared.*;
import org.apache.curator.framework.state.*;
import org.apache.curator.retry.*;
import org.apache.curator.utils.CloseableUtils;
import org.apache.zookeeper.*;

public class CuratorRecipes {
    static final int WAIT_SECONDS = 30, CALM_ROUNDS = 10;
    static String hosts;
    static long seconds;
    static final AtomicInteger failures = new AtomicInteger();

    interface Work { void run() throws Exception; }
    interface Condition { boolean holds() throws Exception; }
    interface Recipe { String run(Load load) throws Exception; }

    /** Clients of one recipe, how long they go on, and what they find wrong. */
    static class Load {
        final String base;
        final long end = System.nanoTime() + seconds * 1_000_000_000L;
        final List<String> problems = Collections.synchronizedList(new ArrayList<>());
        final List<CuratorFramework> clients = new ArrayList<>();
        final AtomicInteger suspensions = new AtomicInteger(), inside = new AtomicInteger();
        volatile boolean closing;

        Load(String name) { base = "/curator-" + UUID.randomUUID() + "/" + name; }

        CuratorFramework client() throws Exception { return client(new RetryForever(50)); }

        CuratorFramework client(org.apache.curator.RetryPolicy policy) throws Exception {
            CuratorFramework client = CuratorFrameworkFactory.builder().connectString(hosts).sessionTimeoutMs(15000)
                .connectionTimeoutMs(15000).retryPolicy(policy).build();
            client.getConnectionStateListenable().addListener((its, state) -> {
                if (state == ConnectionState.LOST && !closing) problems.add("a session was lost");
                if (state == ConnectionState.SUSPENDED) suspensions.incrementAndGet();
            });
            client.start();
            if (!client.blockUntilConnected(WAIT_SECONDS, TimeUnit.SECONDS)) throw new IllegalStateException("no connection");
            synchronized (clients) { clients.add(client); }
            return client;
        }

        boolean more(int done) { return seconds == 0 ? done < CALM_ROUNDS : System.nanoTime() < end; }

        /** What at most so many may do at once. */
        void within(int most, long millis) throws InterruptedException {
            int now = inside.incrementAndGet();
            try {
                if (now > most) problems.add(now + " at once");
                Thread.sleep(millis);
            } finally { inside.decrementAndGet(); }
        }

        /** Runs all of these; none may hang or fail. */
        void together(List<Work> works) throws Exception {
            List<Thread> threads = new ArrayList<>();
            for (Work work : works) {
                Thread thread = new Thread(() -> {
                    try { work.run(); } catch (Throwable error) { problems.add("it failed: " + error); }
                });
                thread.setDaemon(true);
                thread.start();
                threads.add(thread);
            }
            long limit = System.nanoTime() + (seconds + 2 * WAIT_SECONDS) * 1_000_000_000L;
            for (Thread thread : threads) thread.join(Math.max(1, (limit - System.nanoTime()) / 1_000_000));
            long alive = threads.stream().filter(Thread::isAlive).count();
            if (alive > 0) problems.add(alive + " of " + threads.size() + " hang");
        }

        void each(int clients, java.util.function.Function<CuratorFramework, Work> work) throws Exception {
            List<Work> works = new ArrayList<>();
            for (int n = 0; n < clients; n++) works.add(work.apply(client()));
            together(works);
        }

        void eventually(String what, Condition condition) throws Exception {
            long limit = System.nanoTime() + WAIT_SECONDS * 1_000_000_000L;
            while (!condition.holds()) {
                if (System.nanoTime() > limit) { problems.add("waited in vain: " + what); return; }
                Thread.sleep(20);
            }
        }
    }

    static byte[] bytes(Object value) { return value.toString().getBytes(StandardCharsets.UTF_8); }
    static String text(byte[] data) { return new String(data, StandardCharsets.UTF_8); }

    /** Its member has all that anybody was told before: another member may answer from the past. */
    static CuratorFramework current(CuratorFramework client) throws Exception {
        for (int code = -1; code != 0; ) {
            CompletableFuture<Integer> answer = new CompletableFuture<>();
            client.getZookeeperClient().getZooKeeper().sync("/", (rc, path, context) -> answer.complete(rc), null);
            code = answer.get(WAIT_SECONDS, TimeUnit.SECONDS);
        }
        return client;
    }

    static String times(AtomicInteger number, String what) { return number.get() + " " + what; }

    /** A number that each holder raises by one, written without a version: exact only if nobody else holds the lock. */
    static String mutex(Load load) throws Exception {
        String number = load.base + "/number";
        CuratorFramework first = load.client();
        first.create().orSetData().creatingParentsIfNeeded().forPath(number, bytes(0));
        AtomicInteger done = new AtomicInteger();
        load.each(4, client -> () -> {
            InterProcessMutex lock = new InterProcessMutex(client, load.base + "/lock");
            for (int n = 0; load.more(n); n++) {
                lock.acquire();
                load.within(1, 2);
                int value = Integer.parseInt(text(client.getData().forPath(number)));
                client.setData().forPath(number, bytes(value + 1));
                done.incrementAndGet();
                lock.release();
            }
        });
        String value = text(current(first).getData().forPath(number));
        if (!value.equals("" + done)) load.problems.add(done + " holders added one each, the number is " + value);
        return times(done, "holds");
    }

    static String readWriteLock(Load load) throws Exception {
        AtomicInteger done = new AtomicInteger(), nth = new AtomicInteger(), reading = new AtomicInteger(), writing = new AtomicInteger();
        load.each(4, client -> {
            boolean writes = nth.getAndIncrement() < 2;
            return () -> {
                InterProcessReadWriteLock both = new InterProcessReadWriteLock(client, load.base + "/lock");
                InterProcessMutex lock = writes ? both.writeLock() : both.readLock();
                AtomicInteger own = writes ? writing : reading;
                for (int n = 0; load.more(n); n++) {
                    lock.acquire();
                    own.incrementAndGet();
                    if (writing.get() > 1 || writing.get() > 0 && reading.get() > 0) load.problems.add(writing + " write while " + reading + " read");
                    Thread.sleep(2);
                    own.decrementAndGet();
                    done.incrementAndGet();
                    lock.release();
                }
            };
        });
        return times(done, "holds");
    }

    static String semaphore(Load load) throws Exception {
        AtomicInteger done = new AtomicInteger();
        load.each(4, client -> () -> {
            InterProcessSemaphoreV2 semaphore = new InterProcessSemaphoreV2(client, load.base + "/semaphore", 2);
            for (int n = 0; load.more(n); n++) {
                Lease lease = semaphore.acquire();
                load.within(2, 2);
                done.incrementAndGet();
                semaphore.returnLease(lease);
            }
        });
        return times(done, "leases");
    }

    static String leaderSelector(Load load) throws Exception {
        AtomicInteger terms = new AtomicInteger();
        Set<Integer> led = ConcurrentHashMap.newKeySet();
        List<LeaderSelector> selectors = new ArrayList<>();
        for (int n = 0; n < 3; n++) {
            int own = n;
            LeaderSelector selector = new LeaderSelector(load.client(), load.base + "/leader", new LeaderSelectorListenerAdapter() {
                public void takeLeadership(CuratorFramework client) throws Exception {
                    led.add(own);
                    terms.incrementAndGet();
                    load.within(1, 10);
                }
            });
            selector.autoRequeue();
            selectors.add(selector);
            selector.start();
        }
        for (int n = 0; load.more(n); n++) Thread.sleep(50);
        load.eventually("all three have led", () -> led.size() == 3);
        selectors.forEach(LeaderSelector::close);
        return times(terms, "terms");
    }

    static String leaderLatch(Load load) throws Exception {
        List<LeaderLatch> latches = new ArrayList<>();
        List<CuratorFramework> clients = new ArrayList<>();
        for (int n = 0; n < 3; n++) {
            clients.add(load.client());
            latches.add(new LeaderLatch(clients.get(n), load.base + "/latch", "" + n));
            latches.get(n).start();
        }
        AtomicInteger changes = new AtomicInteger();
        for (int n = 0; load.more(n); n++) {
            // Two that say so, before and after: no change of leaders is as quick as that.
            List<Boolean> before = new ArrayList<>(), after = new ArrayList<>();
            latches.forEach(latch -> before.add(latch.hasLeadership()));
            latches.forEach(latch -> after.add(latch.hasLeadership()));
            if (before.equals(after) && Collections.frequency(before, true) > 1) load.problems.add("leaders: " + before);
            int leader = before.indexOf(true);
            if (leader >= 0 && n % 5 == 4) {
                latches.get(leader).close();
                latches.set(leader, new LeaderLatch(clients.get(leader), load.base + "/latch", "" + leader));
                latches.get(leader).start();
                changes.incrementAndGet();
            }
            Thread.sleep(20);
        }
        load.eventually("one leads, and all know whom", () -> latches.stream().filter(LeaderLatch::hasLeadership).count() == 1
            && latches.get(0).getLeader().equals(latches.get(1).getLeader()));
        for (LeaderLatch latch : latches) latch.close();
        return times(changes, "leaders went");
    }

    /** Additions whose answers were lost may have happened, once: these clients do not repeat them by themselves. */
    static String sharedCount(Load load) throws Exception {
        AtomicInteger done = new AtomicInteger(), unknown = new AtomicInteger();
        List<Work> works = new ArrayList<>();
        for (int n = 0; n < 3; n++) {
            CuratorFramework client = load.client(seconds == 0 ? new RetryForever(50) : new RetryNTimes(0, 0));
            SharedCount count = begun(client, load.base + "/count");
            works.add(() -> {
                for (int round = 0; load.more(round); round++) {
                    try {
                        VersionedValue<Integer> now = count.getVersionedValue();
                        if (count.trySetCount(now, now.getValue() + 1)) done.incrementAndGet();
                    } catch (KeeperException error) { unknown.incrementAndGet(); }
                    Thread.sleep(1);
                }
            });
        }
        load.together(works);
        try (SharedCount count = new SharedCount(load.client(), load.base + "/count", 0)) {
            count.start();
            if (count.getCount() < done.get() || count.getCount() > done.get() + unknown.get())
                load.problems.add(done + " acknowledged, " + unknown + " unknown, the count is " + count.getCount());
        }
        return done + " additions, " + unknown + " unknown";
    }

    /** A count that has begun: a client that repeats nothing may need more than one attempt. */
    static SharedCount begun(CuratorFramework client, String path) throws Exception {
        while (true) {
            SharedCount count = new SharedCount(client, path, 0);
            try {
                count.start();
                return count;
            } catch (KeeperException.ConnectionLossException again) { count.close(); }
        }
    }

    static String atomicLong(Load load) throws Exception {
        AtomicInteger done = new AtomicInteger(), unknown = new AtomicInteger();
        String path = load.base + "/long";
        load.client().create().orSetData().creatingParentsIfNeeded().forPath(path, new byte[8]);
        List<Work> works = new ArrayList<>();
        for (int n = 0; n < 3; n++) {
            CuratorFramework client = load.client(seconds == 0 ? new RetryForever(50) : new RetryNTimes(0, 0));
            DistributedAtomicLong value = new DistributedAtomicLong(client, path, new RetryNTimes(seconds == 0 ? 1000 : 0, 5));
            works.add(() -> {
                for (int round = 0; load.more(round); round++) {
                    try {
                        if (value.increment().succeeded()) done.incrementAndGet();
                    } catch (KeeperException error) { unknown.incrementAndGet(); }
                    Thread.sleep(1);
                }
            });
        }
        load.together(works);
        long value = new DistributedAtomicLong(load.client(), path, new RetryNTimes(10, 50)).get().postValue();
        if (value < done.get() || value > done.get() + unknown.get())
            load.problems.add(done + " acknowledged, " + unknown + " unknown, the value is " + value);
        return done + " increments, " + unknown + " unknown";
    }

    /** What a taker locked and did not finish comes back. Twice comes only what a client had to repeat, its connection being lost. */
    static String queue(Load load) throws Exception {
        Map<String, Integer> taken = new ConcurrentHashMap<>();
        Set<String> put = ConcurrentHashMap.newKeySet();
        QueueSerializer<String> serializer = new QueueSerializer<String>() {
            public byte[] serialize(String item) { return bytes(item); }
            public String deserialize(byte[] data) { return text(data); }
        };
        QueueConsumer<String> consumer = new QueueConsumer<String>() {
            public void consumeMessage(String item) { taken.merge(item, 1, Integer::sum); }
            public void stateChanged(CuratorFramework client, ConnectionState state) { }
        };
        Map<String, String> owners = new TreeMap<>();
        CuratorFramework writer = load.client();
        DistributedQueue<String> in = QueueBuilder.builder(writer, null, serializer, load.base + "/queue").lockPath(load.base + "/queue-locks").buildQueue();
        in.start();
        java.util.function.Function<CuratorFramework, DistributedQueue<String>> taker = client -> {
            try {
                owners.put(Long.toHexString(client.getZookeeperClient().getZooKeeper().getSessionId()), "taker " + owners.size());
                DistributedQueue<String> queue = QueueBuilder.builder(client, consumer, serializer, load.base + "/queue").lockPath(load.base + "/queue-locks").buildQueue();
                queue.start();
                return queue;
            } catch (Exception error) { throw new IllegalStateException(error); }
        };
        List<CuratorFramework> clients = List.of(load.client(), load.client());
        List<DistributedQueue<String>> takers = List.of(taker.apply(clients.get(0)), taker.apply(clients.get(1)));
        for (int n = 0; load.more(n / 4); n++) {
            in.put("item-" + n);
            put.add("item-" + n);
            in.flushPuts(WAIT_SECONDS, TimeUnit.SECONDS);
        }
        // A lock whose creation was not answered is created again, which fails: Curator then takes it for somebody else's, and it goes with
        // its session only, which the queue does not notice. So others come at the end, and look whenever one more item comes.
        load.closing = true;
        for (int n = 0; n < 2; n++) { takers.get(n).close(); clients.get(n).close(); }
        load.eventually("all items are taken", () -> {
            try (CuratorFramework client = load.client(); DistributedQueue<String> last = taker.apply(client)) {
                for (int n = 0; n < 20 && !taken.keySet().containsAll(put); n++) {
                    in.put("one more");
                    Thread.sleep(100);
                }
            }
            return taken.keySet().containsAll(put);
        });
        taken.remove("one more");
        for (String lock : writer.getChildren().forPath(load.base + "/queue-locks")) {
            org.apache.zookeeper.data.Stat stat = writer.checkExists().forPath(load.base + "/queue-locks/" + lock);
            if (stat != null && !taken.keySet().containsAll(put))
                load.problems.add(lock + " is locked by " + owners.get(Long.toHexString(stat.getEphemeralOwner())) + " of " + owners.size());
        }
        int twice = taken.values().stream().mapToInt(times -> times - 1).sum();
        if (twice > load.suspensions.get()) load.problems.add(twice + " taken again, " + load.suspensions + " connections lost");
        in.close();
        return put.size() + " items, " + twice + " twice";
    }

    static String simpleQueue(Load load) throws Exception {
        SimpleDistributedQueue queue = new SimpleDistributedQueue(load.client(), load.base + "/simple");
        Set<String> put = new TreeSet<>();
        List<String> taken = Collections.synchronizedList(new ArrayList<>());
        for (int n = 0; n < 50; n++) { queue.offer(bytes(n)); put.add("" + n); }
        load.each(3, client -> () -> {
            SimpleDistributedQueue its = new SimpleDistributedQueue(current(client), load.base + "/simple");
            for (byte[] item; (item = its.poll()) != null; ) taken.add(text(item));
        });
        if (taken.size() != 50 || !new TreeSet<>(taken).equals(put)) load.problems.add("50 put, taken: " + taken);
        return taken.size() + " items";
    }

    static String barriers(Load load) throws Exception {
        DistributedBarrier barrier = new DistributedBarrier(load.client(), load.base + "/barrier");
        barrier.setBarrier();
        AtomicInteger waiting = new AtomicInteger(), passed = new AtomicInteger();
        List<Work> works = new ArrayList<>();
        for (int n = 0; n < 3; n++) {
            DistributedBarrier its = new DistributedBarrier(current(load.client()), load.base + "/barrier");
            works.add(() -> {
                waiting.incrementAndGet();
                if (!its.waitOnBarrier(WAIT_SECONDS, TimeUnit.SECONDS)) load.problems.add("the barrier was not lifted");
                passed.incrementAndGet();
            });
        }
        works.add(() -> {
            load.eventually("all wait", () -> waiting.get() == 3);
            Thread.sleep(100);
            if (passed.get() > 0) load.problems.add("somebody went through the barrier");
            barrier.removeBarrier();
        });
        load.together(works);
        AtomicIntegerArray entered = new AtomicIntegerArray(CALM_ROUNDS), left = new AtomicIntegerArray(CALM_ROUNDS);
        load.each(3, client -> () -> {
            for (int n = 0; n < CALM_ROUNDS; n++) {
                DistributedDoubleBarrier both = new DistributedDoubleBarrier(client, load.base + "/double-" + n, 3);
                entered.incrementAndGet(n);
                if (!both.enter(WAIT_SECONDS, TimeUnit.SECONDS) || entered.get(n) != 3) load.problems.add("entered with " + entered.get(n) + " of 3");
                left.incrementAndGet(n);
                if (!both.leave(WAIT_SECONDS, TimeUnit.SECONDS) || left.get(n) != 3) load.problems.add("left with " + left.get(n) + " of 3");
            }
        });
        return CALM_ROUNDS + " double ones";
    }

    /** Every cache shows the tree at the end, and nothing that it shows goes back. */
    static String caches(Load load) throws Exception {
        CuratorFramework writer = load.client(), reader = load.client();
        String path = load.base + "/tree";
        writer.create().orSetData().creatingParentsIfNeeded().forPath(path, bytes(0));
        Map<String, Long> newest = new ConcurrentHashMap<>();
        CuratorCache cache = CuratorCache.build(reader, path);
        cache.listenable().addListener((type, old, data) -> {
            if (data == null || type == CuratorCacheListener.Type.NODE_DELETED) return;
            Long before = newest.put(data.getPath(), data.getStat().getMzxid());
            if (before != null && before > data.getStat().getMzxid()) load.problems.add(data.getPath() + " goes back");
        });
        cache.start();
        TreeCache tree = new TreeCache(load.client(), path);
        tree.start();
        PathChildrenCache children = new PathChildrenCache(load.client(), path, true);
        children.start();
        NodeCache node = new NodeCache(load.client(), path);
        node.start();
        Map<String, String> expected = new TreeMap<>();
        for (int n = 0; load.more(n); n++) {
            String child = path + "/c" + n % 7, value = "" + n;
            if (n % 7 == 6 && expected.containsKey(child)) {
                writer.delete().quietly().forPath(child);
                expected.remove(child);
            } else {
                writer.create().orSetData().forPath(child, bytes(value));
                expected.put(child, value);
            }
            writer.setData().forPath(path, bytes(n));
            expected.put(path, value);
            Thread.sleep(5);
        }
        Map<String, String> below = new TreeMap<>(expected);
        below.remove(path);
        load.eventually("CuratorCache is the tree", () -> {
            Map<String, String> found = new TreeMap<>();
            cache.stream().forEach(data -> found.put(data.getPath(), text(data.getData())));
            return found.equals(expected);
        });
        load.eventually("TreeCache is the tree", () -> {
            Map<String, String> found = new TreeMap<>();
            Map<String, ChildData> all = tree.getCurrentChildren(path);
            if (all == null) return false;
            all.forEach((name, data) -> found.put(path + "/" + name, text(data.getData())));
            return found.equals(below);
        });
        load.eventually("PathChildrenCache is the children", () -> {
            Map<String, String> found = new TreeMap<>();
            children.getCurrentData().forEach(data -> found.put(data.getPath(), text(data.getData())));
            return found.equals(below);
        });
        load.eventually("NodeCache is the node", () -> node.getCurrentData() != null && text(node.getCurrentData().getData()).equals(expected.get(path)));
        cache.close(); tree.close(); children.close(); node.close();
        return expected.size() + " nodes, four kinds";
    }

    static String persistentNode(Load load) throws Exception {
        CuratorFramework holder = load.client(), other = load.client();
        String path = load.base + "/held";
        try (PersistentNode node = new PersistentNode(holder, CreateMode.EPHEMERAL, false, path, bytes("here"));
             GroupMember member = new GroupMember(load.client(), load.base + "/group", "m", bytes("data"))) {
            node.start();
            member.start();
            if (!node.waitForInitialCreate(WAIT_SECONDS, TimeUnit.SECONDS)) load.problems.add("it was not created");
            for (int n = 0; load.more(n); n++) {
                if (n % 10 == 5) other.delete().quietly().forPath(path);
                load.eventually("the node is there", () -> other.checkExists().forPath(path) != null);
                Thread.sleep(10);
            }
            load.eventually("the group has its member", () -> member.getCurrentMembers().keySet().equals(Set.of("m")));
        }
        load.eventually("it goes when it is closed", () -> other.checkExists().forPath(path) == null);
        return "a node and a group";
    }

    static String nodes(Load load) throws Exception {
        CuratorFramework client = load.client();
        String path = load.base + "/nodes";
        client.create().creatingParentContainersIfNeeded().forPath(path, bytes("x"));
        client.inTransaction().create().forPath(path + "/a").and().setData().forPath(path, bytes("y")).and().check().forPath(path + "/a").and().commit();
        if (!text(client.getData().forPath(path)).equals("y")) load.problems.add("a transaction did not set the data");
        try {
            client.inTransaction().create().forPath(path + "/b").and().delete().forPath(path + "/none").and().commit();
            load.problems.add("a transaction went through that must not");
        } catch (KeeperException.NoNodeException expected) { }
        if (client.checkExists().forPath(path + "/b") != null) load.problems.add("half a transaction");
        client.create().withProtection().withMode(CreateMode.EPHEMERAL_SEQUENTIAL).forPath(path + "/p");
        client.delete().guaranteed().deletingChildrenIfNeeded().forPath(load.base);
        return "transactions, containers, protection";
    }

    static void run(String name, Recipe recipe) {
        Load load = new Load(name.replace(' ', '-'));
        String found = "", full = name + (seconds == 0 ? "" : " while members die");
        try { found = recipe.run(load); } catch (Throwable error) { load.problems.add("it failed: " + error); }
        load.closing = true;
        load.clients.forEach(CloseableUtils::closeQuietly);
        if (load.problems.isEmpty()) System.out.println("ok   Curator " + full + ": " + found);
        else {
            failures.incrementAndGet();
            System.out.println("FAIL Curator " + full + ": " + load.problems.subList(0, Math.min(5, load.problems.size())));
        }
        System.out.flush();
    }

    public static void main(String[] args) throws Exception {
        hosts = args[0];
        seconds = args.length > 1 ? Long.parseLong(args[1]) : 0;
        Map<String, Recipe> faulty = new LinkedHashMap<>(), calm = new LinkedHashMap<>();
        faulty.put("mutex", CuratorRecipes::mutex);
        faulty.put("read-write lock", CuratorRecipes::readWriteLock);
        faulty.put("semaphore", CuratorRecipes::semaphore);
        faulty.put("leader selector", CuratorRecipes::leaderSelector);
        faulty.put("leader latch", CuratorRecipes::leaderLatch);
        faulty.put("shared count", CuratorRecipes::sharedCount);
        faulty.put("atomic long", CuratorRecipes::atomicLong);
        faulty.put("queue", CuratorRecipes::queue);
        faulty.put("caches", CuratorRecipes::caches);
        faulty.put("persistent node", CuratorRecipes::persistentNode);
        calm.putAll(faulty);
        calm.put("simple queue", CuratorRecipes::simpleQueue);
        calm.put("barriers", CuratorRecipes::barriers);
        calm.put("nodes", CuratorRecipes::nodes);
        if (seconds == 0) calm.forEach(CuratorRecipes::run);
        else {
            List<Thread> threads = new ArrayList<>();
            faulty.forEach((name, recipe) -> threads.add(new Thread(() -> run(name, recipe))));
            threads.forEach(Thread::start);
            for (Thread thread : threads) thread.join();
        }
        System.exit(failures.get());
    }
}
