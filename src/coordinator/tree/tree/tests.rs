use super::*;

const ME: SessionId = SessionId(0x100_0000_0000_0001);

#[test]
fn a_new_tree_has_zookeepers_own_nodes() {
    let tree = Tree::new();
    assert_eq!(tree.node_count(), 5);
    let root = tree.nodes["/"].stat();
    assert_eq!((root.cversion, root.num_children), (-1, 1));
    assert!(!tree.sessions().contains_key(&ME));
}
