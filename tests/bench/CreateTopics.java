// Creates many topics in requests of a hundred, as an installer would, and prints the milliseconds until
// a leader of every partition is known. Run by replication.sh as a single source file; Kafka's clients are on the class path.
import java.util.*;
import org.apache.kafka.clients.admin.*;
import org.apache.kafka.common.*;

public class CreateTopics {
    public static void main(String[] args) throws Exception {
        Properties settings = new Properties();
        settings.put("bootstrap.servers", args[0]);
        settings.put("request.timeout.ms", "300000");
        settings.put("default.api.timeout.ms", "300000");
        List<String> names = new ArrayList<>();
        for (int i = 0; i < Integer.parseInt(args[1]); i++) names.add("many-" + i);
        int partitions = Integer.parseInt(args[2]);
        try (Admin admin = Admin.create(settings)) {
            admin.describeCluster().nodes().get();
            long begin = System.nanoTime();
            for (int from = 0; from < names.size(); from += 100) {
                List<NewTopic> topics = new ArrayList<>();
                for (String name : names.subList(from, Math.min(from + 100, names.size())))
                    topics.add(new NewTopic(name, partitions, (short) 3));
                admin.createTopics(topics).all().get();
            }
            while (!led(admin, names)) Thread.sleep(20);
            System.out.println((System.nanoTime() - begin) / 1000000);
        }
    }

    static boolean led(Admin admin, List<String> names) throws Exception {
        try {
            for (TopicDescription topic : admin.describeTopics(names).all().get().values())
                for (TopicPartitionInfo partition : topic.partitions())
                    if (partition.leader() == null || partition.leader().isEmpty()) return false;
            return true;
        } catch (java.util.concurrent.ExecutionException notYet) {
            return false;
        }
    }
}
