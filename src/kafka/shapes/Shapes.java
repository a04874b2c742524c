// Prints the shapes of Kafka's requests and responses, one line for each (kind, key, versions), from the
// schemas of kafka-clients. Run: java -cp 'libs/*' Shapes.java > shapes.txt   (kafka-clients 4.3.1)
//
//   1 2 4 8 16  that many bytes         v varint            w varlong
//   s string, i16 length                S compact string
//   b bytes, i32 length                 B compact bytes
//   [ … ] array, i32 count              < … > compact array
//   { tag: … ; … } tagged fields        ( … ) struct behind one byte that is negative when it is absent
import java.util.*;
import org.apache.kafka.common.message.ApiMessageType;
import org.apache.kafka.common.protocol.types.*;

public class Shapes {
    static void shape(Type t, StringBuilder out) {
        if (t instanceof TaggedFields tf) {
            out.append("{");
            for (var e : new TreeMap<>(tf.fields()).entrySet()) {
                out.append(e.getKey()).append(":");
                shape(e.getValue().type, out);
                out.append(";");
            }
            out.append("}");
            return;
        }
        if (t instanceof Schema s) {
            boolean nullable = s.getClass().getSimpleName().equals("NullableSchema");
            if (nullable) out.append("(");
            for (BoundField f : s.fields()) shape(f.def.type, out);
            if (nullable) out.append(")");
            return;
        }
        if (t.isArray()) {
            boolean compact = t instanceof CompactArrayOf;
            out.append(compact ? "<" : "[");
            shape(t.arrayElementType().get(), out);
            out.append(compact ? ">" : "]");
            return;
        }
        String n = t.toString();
        out.append(switch (n) {
            case "BOOLEAN", "INT8" -> "1 ";
            case "INT16", "UINT16" -> "2 ";
            case "INT32", "UINT32" -> "4 ";
            case "INT64", "FLOAT64" -> "8 ";
            case "UUID" -> "16 ";
            case "VARINT" -> "v"; case "VARLONG" -> "w";
            case "STRING", "NULLABLE_STRING" -> "s";
            case "COMPACT_STRING", "COMPACT_NULLABLE_STRING" -> "S";
            case "BYTES", "NULLABLE_BYTES", "RECORDS", "NULLABLE_RECORDS" -> "b";
            case "COMPACT_BYTES", "COMPACT_NULLABLE_BYTES", "COMPACT_RECORDS", "COMPACT_NULLABLE_RECORDS" -> "B";
            default -> throw new RuntimeException("unknown type " + n + " " + t.getClass());
        });
    }
    static void print(String kind, ApiMessageType api, Schema[] schemas) {
        String last = null; int from = 0;
        for (int v = 0; v <= schemas.length; v++) {
            String s = null;
            if (v < schemas.length && schemas[v] != null) { var b = new StringBuilder(); shape(schemas[v], b); s = b.toString().trim(); }
            if (!Objects.equals(s, last) || v == schemas.length) {
                if (last != null) System.out.println(kind + " " + api.apiKey() + " " + from + " " + (v - 1) + " " + last);
                from = v; last = s;
            }
        }
    }
    public static void main(String[] a) {
        for (ApiMessageType api : ApiMessageType.values()) {
            print("q", api, api.requestSchemas());
            print("r", api, api.responseSchemas());
        }
    }
}
