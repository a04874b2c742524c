// franz-go against BOOTSTRAP: topics, idempotent produce with every codec, a cooperative group, offsets.
// Usage: franzgo HOST:PORT. Prints one line a check; the exit status is the number of failures.
package main

import (
	"context"
	"fmt"
	"os"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

var failures int

func check(name string, run func(context.Context) error) {
	ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
	defer cancel()
	if err := run(ctx); err != nil {
		failures++
		fmt.Printf("FAIL franz-go %s: %v\n", name, err)
		return
	}
	fmt.Printf("ok   franz-go %s\n", name)
}

func main() {
	seed := os.Args[1]
	topic := fmt.Sprintf("franz-%d", time.Now().UnixNano())
	group := topic + "-group"
	client, err := kgo.NewClient(kgo.SeedBrokers(seed))
	if err != nil {
		fmt.Println("FAIL franz-go client:", err)
		os.Exit(1)
	}
	defer client.Close()
	admin := kadm.NewClient(client)

	check("creates a topic", func(ctx context.Context) error {
		_, err := admin.CreateTopic(ctx, 3, 1, nil, topic)
		return err
	})
	total := 0
	for name, codec := range map[string]kgo.CompressionCodec{
		"none": kgo.NoCompression(), "gzip": kgo.GzipCompression(), "snappy": kgo.SnappyCompression(),
		"lz4": kgo.Lz4Compression(), "zstd": kgo.ZstdCompression(),
	} {
		check("produces with "+name, func(ctx context.Context) error {
			producer, err := kgo.NewClient(kgo.SeedBrokers(seed), kgo.DefaultProduceTopic(topic),
				kgo.ProducerBatchCompression(codec), kgo.RequiredAcks(kgo.AllISRAcks()))
			if err != nil {
				return err
			}
			defer producer.Close()
			var records []*kgo.Record
			for i := range 200 {
				records = append(records, &kgo.Record{
					Key: fmt.Appendf(nil, "%s-%d", name, i), Value: fmt.Appendf(nil, "value of %s %d", name, i),
					Headers: []kgo.RecordHeader{{Key: "h", Value: []byte("1")}, {Key: "h", Value: []byte("2")}},
				})
			}
			total += len(records)
			return producer.ProduceSync(ctx, records...).FirstErr()
		})
	}
	check("a group reads every record once, headers too", func(ctx context.Context) error {
		consumer, err := kgo.NewClient(kgo.SeedBrokers(seed), kgo.ConsumerGroup(group), kgo.ConsumeTopics(topic),
			kgo.DisableAutoCommit(), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
		if err != nil {
			return err
		}
		defer consumer.Close()
		seen := map[string]bool{}
		for len(seen) < total {
			fetches := consumer.PollFetches(ctx)
			if err := fetches.Err0(); err != nil {
				return fmt.Errorf("after %d of %d: %w", len(seen), total, err)
			}
			for _, record := range fetches.Records() {
				if seen[string(record.Key)] || len(record.Headers) != 2 {
					return fmt.Errorf("record %q twice or with %d headers", record.Key, len(record.Headers))
				}
				seen[string(record.Key)] = true
			}
		}
		return consumer.CommitUncommittedOffsets(ctx)
	})
	check("the group's lag is 0", func(ctx context.Context) error {
		lags, err := admin.Lag(ctx, group)
		if err != nil {
			return err
		}
		described := lags[group]
		if lag := described.Lag.Total(); lag != 0 {
			return fmt.Errorf("lag %d", lag)
		}
		return described.Error()
	})
	check("offsets by time", func(ctx context.Context) error {
		listed, err := admin.ListOffsetsAfterMilli(ctx, time.Now().Add(-time.Hour).UnixMilli(), topic)
		if err != nil {
			return err
		}
		for p := range int32(3) {
			if offset, _ := listed.Lookup(topic, p); offset.Offset != 0 {
				return fmt.Errorf("partition %d begins at %d", p, offset.Offset)
			}
		}
		return nil
	})
	check("deletes the group and the topic", func(ctx context.Context) error {
		if _, err := admin.DeleteGroup(ctx, group); err != nil {
			return err
		}
		_, err := admin.DeleteTopic(ctx, topic)
		return err
	})
	os.Exit(failures)
}
